/* SPDX-License-Identifier: MIT
 *
 * See draft.h. The job's text stays what the producer wrote; only a missing id is put in, in front of the other
 * members. */
#include "lib/draft.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/digest.h"

#define ID_RANDOM_DIGITS 20 /* 80 bits: no two producers meet by chance */

#define LOWER "abcdefghijklmnopqrstuvwxyz"
#define UPPER "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
#define DIGITS "0123456789"

struct found {
	struct span id, type;
};

/* The last of several members with one name counts, as it does for workers. */
static void collect(void *ctx, struct span key, struct span value)
{
	struct found *f = ctx;

	if (json_key_is(key, "id"))
		f->id = value;
	else if (json_key_is(key, "type"))
		f->type = value;
}

static bool made_of(const char *s, size_t n, size_t max, const char *alphabet)
{
	if (n < 1 || n > max)
		return false;
	for (size_t i = 0; i < n; i++)
		if (!s[i] || !strchr(alphabet, s[i]))
			return false;
	return true;
}

bool draft_is_queue(const char *s, size_t n)
{
	return made_of(s, n, QUEUE_NAME_MAX, LOWER DIGITS "_.-") && made_of(s, 1, 1, LOWER DIGITS);
}

bool draft_is_id(const char *s, size_t n)
{
	return made_of(s, n, ADWUMA_ID_MAX, LOWER UPPER DIGITS "._:-");
}

void adwuma_new_id(char id[ADWUMA_ID_MAX + 1])
{
	int n = snprintf(id, ADWUMA_ID_MAX + 1, "%012llx", (unsigned long long)clock_real_ms());

	random_hex(id + n, ID_RANDOM_DIGITS);
}

/* Decodes a short string; false when it is none, or longer than max. */
static bool short_string(struct span v, size_t max, char *out)
{
	struct buf plain = BUF_INIT(max);
	bool ok = json_span_type(v) == JSON_STRING && json_span_string(v, &plain) && !plain.failed;

	if (ok) {
		memcpy(out, buf_cstr(&plain), plain.len);
		out[plain.len] = '\0';
		ok = strlen(out) == plain.len;
	}
	buf_release(&plain);
	return ok;
}

static int read_object(struct found *f, const char *json, size_t len, struct error *err)
{
	enum json_type type = JSON_NULL;
	enum json_verdict verdict = json_scan(json, len, &type, collect, f);

	if (verdict == JSON_BROKEN)
		return error_set(err, ERR_INVALID, "the job is not JSON");
	if (verdict == JSON_TOO_DEEP)
		return error_set(err, ERR_INVALID, "the job is nested deeper than %d levels", JSON_DEPTH_MAX);
	if (verdict == JSON_NOT_UTF8)
		return error_set(err, ERR_INVALID, "the job holds bytes that are not UTF-8");
	if (type != JSON_OBJECT)
		return error_set(err, ERR_INVALID, "the job is not a JSON object");
	return 0;
}

/* The queue named like the type up to its first dot. */
static int queue_of_type(struct draft *d, struct span type, struct error *err)
{
	char name[QUEUE_NAME_MAX * 2 + 1];

	if (!type.ptr || json_span_type(type) == JSON_NULL)
		return error_set(err, ERR_INVALID, "the job has no \"type\", so its queue must be named");
	if (short_string(type, sizeof name - 1, name)) {
		name[strcspn(name, ".")] = '\0';
		if (draft_is_queue(name, strlen(name))) {
			memcpy(d->queue, name, strlen(name) + 1);
			return 0;
		}
	}
	return error_set(err, ERR_INVALID, "the job's \"type\" names no queue: it must be a string like \"translate\"");
}

static int choose_queue(struct draft *d, const char *queue, struct span type, struct error *err)
{
	if (!queue)
		return queue_of_type(d, type, err);
	if (!draft_is_queue(queue, strlen(queue)))
		return error_set(err, ERR_INVALID,
				 "'%.80s' is no queue name: 1 to %d characters of a-z 0-9 _ . -, beginning with a "
				 "letter or digit",
				 queue, QUEUE_NAME_MAX);
	memcpy(d->queue, queue, strlen(queue) + 1);
	return 0;
}

/* A member that says null is written over, since the last of a name counts; else the id becomes the first member. */
static void put_id(struct buf *out, const char *id, struct span null_id, const char *json, size_t len)
{
	const char *brace = memchr(json, '{', len);
	const char *end = json + len, *at = brace + 1, *rest = at;

	if (null_id.ptr) {
		at = null_id.ptr;
		rest = at + null_id.len;
	}
	buf_add(out, json, (size_t)(at - json));
	if (null_id.ptr) {
		buf_printf(out, "\"%s\"", id);
	} else {
		while (strchr(" \t\r\n", *rest))
			rest++;
		buf_printf(out, "\"id\":\"%s\"%s", id, *rest == '}' ? "" : ",");
	}
	buf_add(out, rest, (size_t)(end - rest));
}

static int choose_id(struct draft *d, struct span id, const char *wanted, struct error *err)
{
	if (id.ptr && json_span_type(id) != JSON_NULL) {
		if (short_string(id, ADWUMA_ID_MAX, d->id) && draft_is_id(d->id, strlen(d->id)))
			return 0;
		return error_set(err, ERR_INVALID,
				 "the job's \"id\" must be a string of 1 to %d characters of A-Z a-z 0-9 . _ : -",
				 ADWUMA_ID_MAX);
	}
	if (wanted && *wanted)
		snprintf(d->id, sizeof d->id, "%s", wanted);
	else
		adwuma_new_id(d->id);
	return 0;
}

int draft_make(struct draft *d, const char *queue, const char *json, size_t len, const char *id, struct buf *scratch,
	       struct error *err)
{
	struct found found = {0};

	if (len > scratch->max)
		return error_set(err, ERR_INVALID, "the job has %zu bytes; max_job_bytes is %zu", len, scratch->max);
	if (read_object(&found, json, len, err) || choose_queue(d, queue, found.type, err) ||
	    choose_id(d, found.id, id, err))
		return -1;
	if (found.id.ptr && json_span_type(found.id) != JSON_NULL) {
		d->payload = (struct span){json, len};
		return 0;
	}
	buf_clear(scratch);
	put_id(scratch, d->id, found.id, json, len);
	if (scratch->failed)
		return error_set(err, ERR_INVALID, "the job with its id has more than max_job_bytes (%zu)",
				 scratch->max);
	d->payload = (struct span){scratch->ptr, scratch->len};
	return 0;
}
