/* SPDX-License-Identifier: MIT
 *
 * See calls.h. A call is kept as the JSON text that the listing shows, written once when it comes. The ring is bounded
 * in calls and in bytes, the oldest go first; numbering never stops. Where there is no memory for a record, it is
 * missing from the list and still counted. */
#include "stub/calls.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "base/digest.h"

#define RING 65536
#define RING_BYTES_MAX (64UL * 1024 * 1024)
#define RECORD_MAX (512UL * 1024) /* the server's 32 KiB of headers, each byte escaped, and more */
#define TEXT_MAX 4096		  /* the 1,000 letters that one call may have */
#define ROUTES_MAX 96
#define STATUSES 600
#define SEEN_FIRST 1024U
#define SEEN_MAX (1U << 21) /* a power of two; half of it is used */

struct seen {
	uint64_t hash; /* 0: free */
	int64_t n;
};

struct calls {
	bool record;
	int64_t n;	  /* seq of the last call */
	int64_t first;	  /* seq of the oldest record; n + 1 where there is none */
	struct buf *ring; /* record seq is in ring[seq % RING] */
	size_t ring_bytes;
	struct {
		char path[64];
		int64_t n;
	} routes[ROUTES_MAX];
	size_t nroutes;
	int64_t statuses[STATUSES];
	int64_t active, max_active, gone;
	unsigned era;
	struct seen *seen; /* open addressing */
	size_t nseen, seen_cap;
};

struct calls *calls_new(bool record)
{
	struct calls *c = calloc(1, sizeof *c);

	if (!c)
		return NULL;
	c->record = record;
	c->first = 1;
	c->ring = record ? calloc(RING, sizeof *c->ring) : NULL; /* pages are used as calls come */
	if (record && !c->ring) {
		free(c);
		return NULL;
	}
	return c;
}

void calls_free(struct calls *c)
{
	if (!c)
		return;
	calls_reset(c);
	free(c->ring);
	free(c);
}

/* --- Records. ---------------------------------------------------------------------------------------------- */

static void drop_oldest(struct calls *c)
{
	struct buf *oldest = &c->ring[c->first++ % RING];

	c->ring_bytes -= oldest->cap;
	buf_release(oldest);
}

void calls_reset(struct calls *c)
{
	while (c->record && c->first <= c->n)
		drop_oldest(c);
	c->n = 0;
	c->first = 1;
	c->nroutes = 0;
	memset(c->statuses, 0, sizeof c->statuses);
	c->max_active = c->active;
	c->gone = 0;
	c->era++;
	free(c->seen);
	c->seen = NULL;
	c->nseen = c->seen_cap = 0;
}

static const char *redacted(const char *name, const char *value)
{
	bool secret = strcasecmp(name, "Ocp-Apim-Subscription-Key") == 0 || strcasecmp(name, "subscription-key") == 0 ||
		      strcasecmp(name, "Authorization") == 0;

	return secret ? "***" : value;
}

static void add_query(void *ctx, const char *name, const char *value)
{
	struct buf *query = ctx;

	if (query->len > 0)
		buf_char(query, '&');
	buf_str_add(query, name);
	buf_char(query, '=');
	buf_str_add(query, redacted(name, value));
}

/* As it came, but for the value of a key in it. */
static void add_target(struct buf *out, const struct httpd_request *r)
{
	static const char secret[] = "subscription-key=";
	const char *target = httpd_target(r), *key = strcasestr(target, secret);
	struct buf text = BUF_INIT(RECORD_MAX);

	if (key) {
		key += sizeof secret - 1;
		buf_add(&text, target, (size_t)(key - target));
		buf_lit(&text, "***");
		buf_str_add(&text, key + strcspn(key, "&"));
	}
	buf_lit(out, ",\"target\":");
	buf_json_cstr(out, key ? buf_cstr(&text) : target);
	buf_release(&text);
}

static void add_header(void *ctx, const char *name, const char *value)
{
	struct buf *record = ctx;

	if (record->failed)
		return;
	if (record->ptr[record->len - 1] != '{')
		buf_char(record, ',');
	buf_json_cstr(record, name);
	buf_char(record, ':');
	buf_json_cstr(record, redacted(name, value));
}

static void add_number(struct buf *out, const char *name, int64_t value)
{
	buf_str_add(out, name);
	buf_int(out, value);
}

static void add_text(struct buf *out, const char *name, const char *value)
{
	buf_str_add(out, name);
	buf_json_cstr(out, value ? value : "");
}

static void add_given(struct buf *out, const char *name, const char *value)
{
	if (value)
		add_text(out, name, value);
}

/* Cut text ends with a whole letter. */
static size_t text_len(const char *text)
{
	size_t n = strnlen(text, TEXT_MAX);

	if (n < TEXT_MAX)
		return n;
	while (n > 0 && ((unsigned char)text[n] & 0xc0) == 0x80)
		n--;
	return n;
}

static void write_record(struct buf *out, int64_t seq, const struct httpd_request *r, const struct call_input *in,
			 int status)
{
	struct buf query = BUF_INIT(RECORD_MAX);
	size_t len;
	const char *body = httpd_body(r, &len);
	char sum[SHA256_HEX_LEN + 1];

	httpd_queries(r, add_query, &query);
	sha256_hex(body, len, sum);
	add_number(out, "{\"seq\":", seq);
	add_number(out, ",\"arrived_ms\":", clock_real_ms());
	add_number(out, ",\"status\":", status);
	add_text(out, ",\"method\":", httpd_method(r));
	add_text(out, ",\"path\":", httpd_path(r));
	add_text(out, ",\"query\":", buf_cstr(&query));
	if (httpd_target(r) != httpd_path(r))
		add_target(out, r);
	add_text(out, ",\"content_type\":", httpd_header(r, "Content-Type"));
	add_text(out, ",\"traceparent\":", httpd_header(r, "traceparent"));
	buf_lit(out, ",\"headers\":{");
	httpd_headers(r, add_header, out);
	add_number(out, "},\"connection\":", httpd_connection(r));
	add_number(out, ",\"body_bytes\":", (int64_t)len);
	add_text(out, ",\"body_sha256\":", sum);
	add_text(out, ",\"language\":", in->language);
	add_given(out, ",\"speaker\":", in->speaker);
	add_given(out, ",\"speaker_id\":", in->speaker_id);
	add_given(out, ",\"format\":", in->format);
	buf_str_add(out, in->stream ? ",\"stream\":true" : "");
	buf_lit(out, ",\"text\":");
	buf_json_string(out, in->text, text_len(in->text));
	if (in->more)
		buf_str_add(out, in->more);
	buf_char(out, '}');
	buf_release(&query);
}

static void keep(struct calls *c, struct buf record)
{
	if (record.failed)
		buf_release(&record);
	while (c->first < c->n && (c->n - c->first >= RING || c->ring_bytes + record.cap > RING_BYTES_MAX))
		drop_oldest(c);
	c->ring[c->n % RING] = record;
	c->ring_bytes += record.cap;
}

void calls_list(const struct calls *c, int64_t since, int64_t limit, struct buf *out)
{
	const char *comma = "";
	int64_t seq = since < c->first ? c->first : since < c->n ? since + 1 : c->n + 1;

	buf_char(out, '[');
	for (; c->record && seq <= c->n && limit > 0; seq++) {
		const struct buf *record = &c->ring[seq % RING];

		if (record->len == 0)
			continue;
		buf_str_add(out, comma);
		buf_add(out, record->ptr, record->len);
		comma = ",";
		limit--;
	}
	buf_char(out, ']');
}

/* --- Counters. --------------------------------------------------------------------------------------------- */

/* Paths beyond the table's end are counted in the sum only. */
static void count_route(struct calls *c, const char *path)
{
	size_t n = strnlen(path, sizeof c->routes[0].path - 1), i;

	for (i = 0; i < c->nroutes; i++)
		if (strncmp(c->routes[i].path, path, n) == 0 && !c->routes[i].path[n])
			break;
	if (i == ROUTES_MAX)
		return;
	if (i == c->nroutes) {
		memcpy(c->routes[i].path, path, n);
		c->routes[i].path[n] = '\0';
		c->routes[i].n = 0;
		c->nroutes++;
	}
	c->routes[i].n++;
}

static void call_over(void *ctx, const struct httpd_answer *a, const struct httpd_end *end)
{
	struct calls *c = ctx;

	(void)a;
	c->active--;
	c->gone += end->gone;
}

void calls_note(struct calls *c, struct call_ref call, const char *members)
{
	struct buf *record;

	if (!c->record || call.era != c->era || call.seq < c->first)
		return;
	record = &c->ring[call.seq % RING];
	if (record->len == 0)
		return;
	c->ring_bytes -= record->cap;
	buf_cut(record, record->len - 1);
	buf_str_add(record, members);
	buf_char(record, '}');
	c->ring_bytes += record->cap;
}

struct call_ref calls_add(struct calls *c, const struct httpd_request *r, const struct call_input *in,
			  struct httpd_answer *a)
{
	bool silent = a->manner == HTTPD_HANG || a->manner == HTTPD_RESET || a->manner == HTTPD_CLOSE;
	int status = silent ? 0 : a->status;
	struct buf record = BUF_INIT(RECORD_MAX);

	c->n++;
	count_route(c, in->route ? in->route : httpd_path(r));
	if (status >= 0 && status < STATUSES)
		c->statuses[status]++;
	c->active++;
	if (c->max_active < c->active)
		c->max_active = c->active;
	a->done = call_over;
	a->done_ctx = c;
	if (c->record) {
		write_record(&record, c->n, r, in, status);
		keep(c, record);
	}
	return (struct call_ref){c->n, c->era};
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
	buf_printf(out, "},\"active\":%lld,\"max_active\":%lld,\"gone\":%lld}", (long long)c->active,
		   (long long)c->max_active, (long long)c->gone);
}

/* --- Inputs whose fault ends after some times. ------------------------------------------------------------- */

static struct seen *seen_find(struct seen *table, size_t cap, uint64_t hash)
{
	size_t i = (hash >> 1) & (cap - 1);

	while (table[i].hash && table[i].hash != hash)
		i = (i + 1) & (cap - 1);
	return &table[i];
}

/* Keeps at least half of the table free. */
static bool seen_room(struct calls *c)
{
	size_t cap = c->seen_cap ? 2 * c->seen_cap : SEEN_FIRST;
	struct seen *table;

	if (c->seen && 2 * c->nseen < c->seen_cap)
		return true;
	table = cap <= SEEN_MAX ? calloc(cap, sizeof *table) : NULL;
	if (!table)
		return false;
	for (size_t i = 0; c->seen && i < c->seen_cap; i++)
		if (c->seen[i].hash)
			*seen_find(table, cap, c->seen[i].hash) = c->seen[i];
	free(c->seen);
	c->seen = table;
	c->seen_cap = cap;
	return true;
}

/* Where no more inputs can be remembered, a new one counts as seen often: its limited fault does not come, rather than
 * come for ever. */
int64_t calls_seen(struct calls *c, const char *const *texts, size_t n, size_t number)
{
	uint64_t hash = (14695981039346656037ULL ^ number) * 1099511628211ULL; /* FNV-1a */
	struct seen *s;

	for (size_t i = 0; i < n; i++) {
		for (const char *p = texts[i]; *p; p++)
			hash = (hash ^ (unsigned char)*p) * 1099511628211ULL;
		hash = (hash ^ 0xff) * 1099511628211ULL; /* no byte of UTF-8: where a text ends */
	}
	hash |= 1; /* 0 marks what is free */
	s = c->seen ? seen_find(c->seen, c->seen_cap, hash) : NULL;
	if (s && s->hash)
		return ++s->n;
	if (!seen_room(c))
		return INT64_MAX;
	s = seen_find(c->seen, c->seen_cap, hash);
	*s = (struct seen){.hash = hash, .n = 1};
	c->nseen++;
	return 1;
}
