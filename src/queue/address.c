/* SPDX-License-Identifier: MIT */
#include "queue/address.h"

static int parse(struct redis_address *out, const struct settings *s, const char *url, struct error *err)
{
	const struct redis_options options = {.username = s->redis_username,
					      .password = s->redis_password,
					      .ca_file = s->redis_ca_file,
					      .cert_file = s->redis_cert_file,
					      .key_file = s->redis_key_file};

	return redis_address_parse(out, url, &options, err);
}

int address_from_settings(struct redis_address *out, const struct settings *s, struct error *err)
{
	return parse(out, s, s->redis_url, err);
}

int address_check_url(const struct settings *s, const char *url, struct error *err)
{
	struct redis_address a = {0};
	int rc = parse(&a, s, url, err);

	redis_address_release(&a);
	return rc;
}
