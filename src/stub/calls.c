/* SPDX-License-Identifier: MIT */
#include "stub/calls.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/digest.h"

#define RING 65536
#define ROUTES_MAX 32
#define TEXT_MAX 256
#define STATUSES 600
#define SEEN_MAX 65536 /* a hash table; more inputs with times= than half of it would be a strange test */

struct call {
	int64_t seq, arrived_ms;
	char method[8], path[64], query[160], type[64], trace[80], agent[48], text[TEXT_MAX];
	bool key;
	size_t body_bytes;
	char body_sha256[SHA256_HEX_LEN + 1];
	int status;
};

struct calls {
	bool record;
	int64_t n;
	struct call *ring;
	struct {
		char path[64];
		int64_t n;
	} routes[ROUTES_MAX];
	size_t nroutes;
	int64_t statuses[STATUSES];
	struct {
		uint64_t hash;
		int64_t n;
	} seen[SEEN_MAX];
};

struct calls *calls_new(bool record)
{
	struct calls *c = calloc(1, sizeof *c);

	if (!c)
		return NULL;
	c->record = record;
	c->ring = record ? calloc(RING, sizeof *c->ring) : NULL; /* pages are used as calls come */
	if (record && !c->ring) {
		free(c);
		return NULL;
	}
	return c;
}

void calls_free(struct calls *c)
{
	if (c)
		free(c->ring);
	free(c);
}

void calls_reset(struct calls *c)
{
	c->n = 0;
	c->nroutes = 0;
	memset(c->statuses, 0, sizeof c->statuses);
	memset(c->seen, 0, sizeof c->seen);
}

static void copy(char *to, size_t size, const char *from)
{
	size_t n = from ? strnlen(from, size - 1) : 0;

	if (n > 0)
		memcpy(to, from, n);
	to[n] = '\0';
}

static void count_route(struct calls *c, const char *path)
{
	size_t i;

	for (i = 0; i < c->nroutes; i++)
		if (strcmp(c->routes[i].path, path) == 0)
			break;
	if (i == ROUTES_MAX)
		return;
	if (i == c->nroutes) {
		copy(c->routes[i].path, sizeof c->routes[i].path, path);
		c->routes[i].n = 0;
		c->nroutes++;
	}
	c->routes[i].n++;
}

void calls_add(struct calls *c, const struct httpd_request *r, const char *text, int status)
{
	struct call *call;
	const char *language = httpd_query(r, "language"), *stamps = httpd_query(r, "timestamps"), *body;
	size_t len;

	c->n++;
	count_route(c, httpd_path(r));
	if (status > 0 && status < STATUSES)
		c->statuses[status]++;
	if (!c->record)
		return;
	call = &c->ring[(c->n - 1) % RING];
	*call = (struct call){.seq = c->n, .arrived_ms = clock_real_ms(), .status = status, .key = httpd_header(r, "Ocp-Apim-Subscription-Key")};
	copy(call->method, sizeof call->method, httpd_method(r));
	copy(call->path, sizeof call->path, httpd_path(r));
	copy(call->type, sizeof call->type, httpd_header(r, "Content-Type"));
	copy(call->trace, sizeof call->trace, httpd_header(r, "traceparent"));
	copy(call->agent, sizeof call->agent, httpd_header(r, "User-Agent"));
	copy(call->text, sizeof call->text, text);
	if (language) {
		struct buf q = BUF_INIT(sizeof call->query - 1);

		buf_printf(&q, "language=%s%s%s", language, stamps ? "&timestamps=" : "", stamps ? stamps : "");
		copy(call->query, sizeof call->query, buf_cstr(&q));
		buf_release(&q);
	}
	body = httpd_body(r, &len);
	call->body_bytes = len;
	sha256_hex(body, len, call->body_sha256);
}

static void add_member(struct buf *out, const char *name, const char *value)
{
	buf_printf(out, ",\"%s\":", name);
	buf_json_cstr(out, value);
}

void calls_list(const struct calls *c, int64_t since, struct buf *out)
{
	int64_t from = c->n > RING ? c->n - RING : 0;
	const char *comma = "";

	buf_char(out, '[');
	for (int64_t i = since > from ? since : from; c->record && i < c->n; i++, comma = ",") {
		const struct call *call = &c->ring[i % RING];

		buf_printf(out, "%s{\"seq\":%lld,\"arrived_ms\":%lld,\"status\":%d,\"body_bytes\":%zu,\"key\":%s", comma, (long long)call->seq,
			   (long long)call->arrived_ms, call->status, call->body_bytes, call->key ? "\"***\"" : "null");
		add_member(out, "method", call->method);
		add_member(out, "path", call->path);
		add_member(out, "query", call->query);
		add_member(out, "content_type", call->type);
		add_member(out, "traceparent", call->trace);
		add_member(out, "user_agent", call->agent);
		add_member(out, "text", call->text);
		add_member(out, "body_sha256", call->body_sha256);
		buf_char(out, '}');
	}
	buf_char(out, ']');
}

void calls_stats(const struct calls *c, struct buf *out)
{
	const char *comma = "";

	buf_printf(out, "{\"calls\":%lld,\"routes\":{", (long long)c->n);
	for (size_t i = 0; i < c->nroutes; i++) {
		buf_str_add(out, i ? "," : "");
		buf_json_cstr(out, c->routes[i].path);
		buf_printf(out, ":%lld", (long long)c->routes[i].n);
	}
	buf_lit(out, "},\"statuses\":{");
	for (int i = 0; i < STATUSES; i++) {
		if (!c->statuses[i])
			continue;
		buf_printf(out, "%s\"%d\":%lld", comma, i, (long long)c->statuses[i]);
		comma = ",";
	}
	buf_lit(out, "}}");
}

int64_t calls_seen(struct calls *c, const char *input)
{
	uint64_t hash = 14695981039346656037ULL; /* FNV-1a */
	size_t i;

	for (const char *p = input; *p; p++)
		hash = (hash ^ (unsigned char)*p) * 1099511628211ULL;
	for (i = hash % SEEN_MAX; c->seen[i].hash && c->seen[i].hash != hash; i = (i + 1) % SEEN_MAX)
		;
	c->seen[i].hash = hash;
	return ++c->seen[i].n;
}
