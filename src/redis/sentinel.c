/* SPDX-License-Identifier: MIT
 *
 * Sentinels watch a master by its name, and name another when it has failed. They are asked in the order of the URL, each at every connection that is
 * opened. What one names may have become a replica a moment ago, or be dead: whoever connects looks at the role, and asks the next. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "redis/connection.h"

/* A sentinel often has no password where its master has one; one that has, has the same. */
struct redis *redis_open_sentinel(const struct redis_address *a, const struct redis_point *point, bool *with_login,
				  struct error *err)
{
	struct redis_address plain = {.tls = a->tls}, ours = plain;
	struct redis *r = open_point(&plain, point, OPEN_LOGIN, SEEK_MS, err);

	*with_login = false;
	if (!r || !a->password || redis_call(r, NULL, err, "PING") == 0 || !strstr(err->msg, "NOAUTH"))
		return r;
	redis_close(r);
	*with_login = true;
	ours.username = a->username;
	ours.password = a->password;
	return open_point(&ours, point, OPEN_LOGIN, SEEK_MS, err);
}

static int read_answer(const struct redis_address *a, const struct reply *reply, struct redis_point *master,
		       struct error *err)
{
	const char *host = reply_bytes(reply_at(reply, 0), NULL), *port = reply_bytes(reply_at(reply, 1), NULL);

	if (reply_is_nil(reply))
		return error_set(err, ERR_REFUSED, "it watches no master '%s'", a->master);
	if (!host || !*host || strlen(host) > REDIS_HOST_MAX || !port || !is_port(strtoll(port, NULL, 10)))
		return error_set(err, ERR_LINK, "it gave an answer of another shape");
	snprintf(master->host, sizeof master->host, "%s", host);
	master->port = (int)strtol(port, NULL, 10);
	return 0;
}

/* 0: it named one; or -1. */
static int ask_one(const struct redis_address *a, const struct redis_point *point, struct redis_point *master,
		   struct error *err)
{
	bool with_login;
	struct redis *r = redis_open_sentinel(a, point, &with_login, err);
	struct reply *reply = NULL;
	int rc = r ? redis_call(r, &reply, err, "SENTINEL get-master-addr-by-name %s", a->master) : -1;

	if (rc == 0)
		rc = read_answer(a, reply, master, err);
	else if (err->code == ERR_REFUSED && strstr(err->msg, "unknown command"))
		other_kind(err, "no sentinel but a Redis", "redis:// or redis+cluster://");
	reply_free(reply);
	redis_close(r);
	return rc;
}

int sentinel_ask(const struct redis_address *a, size_t *next, struct redis_point *master, struct error *err)
{
	struct error refused = {0}, lost = {0};
	char where[REDIS_HOST_MAX + 16];

	while (*next < a->npoints) {
		const struct redis_point *sentinel = &a->points[(*next)++];
		struct error e = {0};

		if (ask_one(a, sentinel, master, &e) == 0)
			return 0;
		point_show(sentinel, where, sizeof where);
		error_prefix(&e, "sentinel %s", where);
		*(e.code == ERR_REFUSED ? &refused : &lost) = e;
	}
	/* One that is away may know better. */
	if (err)
		*err = lost.code != ERR_NONE ? lost : refused;
	return -1;
}
