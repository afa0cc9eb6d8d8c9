/* SPDX-License-Identifier: MIT
 *
 * Catalogues: whatever a server answers becomes a list in order, or an error that can be told. The input's first byte says which catalogue
 * and whether the status is one of success; the rest is the body. */
#include "fuzz.h"

#include "api/catalogue.h"
#include "base/utf8.h"

#define KIND(c) ((enum catalogue_kind)((c)&3))
#define FAILS 4	 /* the status is 500 */
#define UNREAD 8 /* the body has no content type */

static void check_text(const char *s)
{
	must(s && utf8_valid(s, strlen(s)));
}

static void check_list(const struct catalogue *c, bool grouped)
{
	for (size_t i = 0; i < c->n; i++) {
		const struct catalogue_entry *e = &c->entries[i], *last = i ? e - 1 : e;

		check_text(e->code);
		check_text(e->name);
		must(*e->code);
		must(grouped ? strcmp(last->name, e->name) <= 0 : strcmp(last->code, e->code) <= 0);
	}
}

static void check_error(const struct outcome *out)
{
	struct buf json = BUF_INIT(SIZE_MAX / 4);

	must(out->fault.message.len > 0 && strlen(out->fault.message.ptr) == out->fault.message.len);
	must(!strstr(out->fault.message.ptr, "a-secret-key"));
	fault_json(&out->fault, &json);
	must(!json.failed && json_scan(json.ptr, json.len, NULL, NULL, NULL) == JSON_OK);
	buf_release(&json);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static char url[] = "https://api.example.org", key[] = "a-secret-key";
	const struct settings s = {.khaya_base_url = url, .khaya_api_key = key};
	uint8_t how = size ? data[0] : 0;
	struct http_response resp = {.end = HTTP_ANSWERED,
				     .status = how & FAILS ? 500 : 200,
				     .body = BUF_INIT(SIZE_MAX / 4)};
	struct catalogue c;
	struct outcome out;

	outcome_init(&out);
	if (!(how & UNREAD))
		snprintf(resp.content_type, sizeof resp.content_type, "application/json");
	buf_add(&resp.body, data + (size ? 1 : 0), size ? size - 1 : 0);
	catalogue_read(KIND(how), &s, &resp, &c, &out);
	must(out.kind != OUTCOME_RETRY || how & FAILS);
	must(out.kind != OUTCOME_SUCCEEDED || !(how & FAILS));
	must((out.kind == OUTCOME_SUCCEEDED) == (c.body != NULL));
	if (out.kind == OUTCOME_SUCCEEDED)
		check_list(&c, KIND(how) == CATALOGUE_SPEAKERS);
	else
		check_error(&out);
	catalogue_release(&c);
	outcome_release(&out);
	buf_release(&resp.body);
	return 0;
}
