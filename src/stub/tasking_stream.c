/* SPDX-License-Identifier: MIT
 *
 * The bytes of an event stream: as the server sends them, unless the directives want something else. Pauses between
 * events are places in the bytes, which the server waits at. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "base/utf8.h"
#include "stub/tasking.h"

#define STREAM_MAX (256UL * 1024 * 1024)
#define PIECES_MAX 1000000
#define STAMP "@0000000000000000" /* microseconds since 1970, filled in when it is sent */

struct writing {
	struct tasking *t;
	struct buf *out;
	struct httpd_pause *pauses;
	size_t npauses, cap;
	size_t chunks; /* of them, so many are the answer's own: */
	size_t pieces;
};

static void pause_here(struct writing *w, int64_t ms)
{
	if (w->npauses == w->cap) {
		size_t cap = w->cap ? 2 * w->cap : 64;
		struct httpd_pause *more = realloc(w->pauses, cap * sizeof *more);

		if (!more)
			return;
		w->pauses = more;
		w->cap = cap;
	}
	w->pauses[w->npauses++] = (struct httpd_pause){w->out->len, ms};
}

static const char *line_end(const struct writing *w)
{
	return w->t->d.crlf ? "\r\n" : w->t->d.cr ? "\r" : "\n";
}

/* All but ASCII becomes \u escapes, astral letters pairs of them (8.1). */
static void add_ascii(struct buf *out, const char *s, size_t n)
{
	for (size_t i = 0, step; i < n; i += step) {
		const unsigned char *b = (const unsigned char *)s + i;
		unsigned c;

		step = utf8_step(s + i, n - i);
		if (step <= 1) {
			buf_add(out, s + i, 1);
			step = 1;
			continue;
		}
		c = b[0] & (0xffU >> (step + 1));
		for (size_t j = 1; j < step; j++)
			c = c << 6 | (b[j] & 63U);
		if (c >= 0x10000)
			buf_printf(out, "\\u%04x\\u%04x", 0xd800U + ((c - 0x10000) >> 10),
				   0xdc00U + ((c - 0x10000) & 1023));
		else
			buf_printf(out, "\\u%04x", c);
	}
}

/* Separators ", " and ": " outside of strings, as the server's writer makes them. */
static void add_spaced(struct buf *out, const char *s, size_t n)
{
	bool inside = false;

	for (size_t i = 0; i < n; i++) {
		buf_char(out, s[i]);
		if (s[i] == '\\' && inside && i + 1 < n)
			buf_char(out, s[++i]);
		else if (s[i] == '"')
			inside = !inside;
		else if (!inside && (s[i] == ',' || s[i] == ':'))
			buf_char(out, ' ');
	}
}

static void add_data(struct writing *w, const char *json, size_t n)
{
	struct buf spaced = BUF_INIT(STREAM_MAX), text = BUF_INIT(STREAM_MAX);
	const char *comma;

	add_spaced(&spaced, json, n);
	if (w->t->d.raw_utf8)
		buf_add(&text, buf_cstr(&spaced), spaced.len);
	else
		add_ascii(&text, buf_cstr(&spaced), spaced.len);
	if (w->t->d.comments)
		buf_printf(w->out, ": nothing to see%sid: 7%sretry: 10%s", line_end(w), line_end(w), line_end(w));
	comma = w->t->d.multiline ? strstr(buf_cstr(&text), ", \"") : NULL;
	if (comma)
		buf_printf(w->out, "data: %.*s%sdata: %s", (int)(comma + 1 - text.ptr), text.ptr, line_end(w),
			   comma + 1);
	else
		buf_printf(w->out, "data: %s", buf_cstr(&text));
	buf_printf(w->out, "%s%s", line_end(w), line_end(w));
	buf_release(&spaced);
	buf_release(&text);
}

static void add_literal(struct writing *w, const char *json)
{
	add_data(w, json, strlen(json));
}

static void add_chunk(struct writing *w, const char *object, const char *delta, size_t n)
{
	const struct directives *d = &w->t->d;
	struct buf json = BUF_INIT(STREAM_MAX);

	if (d->pace_ms > 0 && w->chunks > 0)
		pause_here(w, d->pace_ms);
	buf_printf(&json, "{\"object\":\"%s\",\"role\":\"assistant\",\"index\":%zu,\"delta\":", object, w->chunks++);
	buf_json_string(&json, delta, n);
	if (d->stamp || d->bad_unicode || d->astral) {
		buf_cut(&json, json.len - 1);
		buf_str_add(&json, d->bad_unicode ? (d->raw_utf8 ? "\xff" : "\\ud83d") : "");
		buf_str_add(&json, d->astral ? "\xf0\x9f\x98\x80" : "");
		buf_str_add(&json, d->stamp ? " " STAMP : "");
		buf_char(&json, '"');
	}
	buf_printf(&json, ",\"created_timestamp\":%" PRId64 "}", clock_real_ms());
	add_data(w, buf_cstr(&json), json.len);
	if (d->unknown_object)
		add_literal(w, "{\"object\":\"Weather\",\"sun\":true}");
	if (d->empty_deltas && n > 0)
		add_chunk(w, object, "", 0);
	buf_release(&json);
}

static void add_error(struct writing *w, const char *code, const char *message)
{
	struct buf json = BUF_INIT(1UL << 20);

	buf_lit(&json, "{\"object\":\"Error\",\"code\":");
	buf_json_cstr(&json, code);
	buf_lit(&json, ",\"message\":");
	buf_json_cstr(&json, message);
	buf_char(&json, '}');
	add_data(w, buf_cstr(&json), json.len);
	buf_release(&json);
}

static void add_wanted_error(struct writing *w)
{
	const struct directives *d = &w->t->d;
	char code[DIRECTIVES_LINE_MAX + 1] = "UNKNOWN_ERROR";
	char message[DIRECTIVES_LINE_MAX + 1] = "The stub was asked to say so.";

	if (d->code.ptr)
		snprintf(code, sizeof code, "%.*s", (int)d->code.len, d->code.ptr);
	if (d->message.ptr)
		snprintf(message, sizeof message, "%.*s", (int)d->message.len, d->message.ptr);
	add_error(w, code, d->empty_message ? "" : message);
}

/* Events that are written already, one a line. */
static void add_lines(struct writing *w, const struct buf *lines)
{
	const char *at = lines ? buf_cstr(lines) : "";

	while (*at) {
		size_t n = strcspn(at, "\n");

		add_data(w, at, n);
		at += n + (at[n] == '\n');
	}
}

/* Where the next piece of the text ends: at `pieces` like parts, else behind its next word. */
static size_t piece_len(const struct directives *d, const char *text, size_t left, size_t whole, size_t number)
{
	size_t n;

	if (d->pieces > 0) {
		size_t pieces = (size_t)(d->pieces < PIECES_MAX ? d->pieces : PIECES_MAX);

		n = whole * (number + 1) / pieces - whole * number / pieces;
		n = n < left ? n : left;
		while (n < left && ((unsigned char)text[n] & 0xc0) == 0x80)
			n++;
		return n;
	}
	n = strcspn(text, " ");
	return n + strspn(text + n, " ");
}

static bool is_end(const struct tasking *t, const char *end)
{
	return words_are(t->d.end, end);
}

/* The bytes in parts of so many, each by itself. */
static void split_bytes(struct writing *w, size_t n)
{
	struct httpd_pause *old = w->pauses;
	size_t nold = w->npauses, at = 0, whole = w->out->len;

	w->pauses = NULL;
	w->npauses = w->cap = 0;
	for (size_t i = 0; at < whole;) {
		w->out->len = at; /* where pause_here() puts it */
		if (i < nold && old[i].at <= at)
			pause_here(w, old[i++].ms);
		else if (at > 0)
			pause_here(w, 1);
		at = i < nold && old[i].at < at + n ? old[i].at : at + n;
	}
	w->out->len = whole;
	free(old);
}

static void fill_stamp(char *bytes, size_t n)
{
	struct timespec now;
	char digits[24], *at;

	for (char *from = bytes; (at = memmem(from, n - (size_t)(from - bytes), STAMP, sizeof STAMP - 1));
	     from = at + 1) {
		clock_gettime(CLOCK_REALTIME, &now);
		snprintf(digits, sizeof digits, "@%016" PRId64, (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000);
		memcpy(at, digits, sizeof STAMP - 1);
	}
}

/* cut_after ends a stream as end says, or with a cut. */
static bool ends_with(const struct writing *w, const char *end)
{
	const struct directives *d = &w->t->d;

	if (!d->end.ptr && d->cut_after > 0 && (int64_t)w->pieces >= d->cut_after)
		return strcmp(end, "cut") == 0;
	return is_end(w->t, end);
}

static void send(struct writing *w)
{
	struct tasking *t = w->t;

	if (t->d.split > 0)
		split_bytes(w, (size_t)t->d.split);
	t->streams = true;
	t->a->status = 200;
	httpd_add_header(t->a, "Content-Type", "text/event-stream; charset=utf-8");
	t->a->chunked = true;
	t->a->pauses = w->pauses;
	t->a->npauses = w->npauses;
	t->a->touch = t->d.stamp ? fill_stamp : NULL;
	if (ends_with(w, "cut") || ends_with(w, "midline"))
		t->a->manner = HTTPD_CUT;
	else if (ends_with(w, "hang"))
		t->a->manner = HTTPD_STAY;
}

/* The answer's last event. */
static void add_final(struct writing *w, const struct tasking_events *e)
{
	const struct directives *d = &w->t->d;

	if (d->stream_error > 0)
		add_wanted_error(w);
	else if (e->code)
		add_error(w, e->code, e->message);
	else if (e->final && !is_end(w->t, "nofinal")) {
		add_data(w, buf_cstr(e->final), e->final->len);
		w->t->final_end = w->out->len;
	}
}

static void finish(struct writing *w, const struct tasking_events *e)
{
	const struct directives *d = &w->t->d;

	if (d->pace_ms > 0 && w->chunks > 0)
		pause_here(w, d->pace_ms);
	if (ends_with(w, "cut") || ends_with(w, "hang"))
		return;
	if (is_end(w->t, "midline")) {
		buf_lit(w->out, "data: {\"object\": \"ChatComp");
		return;
	}
	add_lines(w, e->after);
	if (d->not_json)
		buf_printf(w->out, "data: no JSON%s%s", line_end(w), line_end(w));
	add_final(w, e);
	if (is_end(w->t, "nodone"))
		return;
	buf_printf(w->out, "data: [DONE]%s%s", line_end(w), line_end(w));
	if (d->after_done)
		add_literal(w, "{\"object\":\"Error\",\"code\":\"UNKNOWN_ERROR\",\"message\":\"too late\"}");
}

/* The text's pieces, up to the one in whose place an error comes. */
static void add_chunks(struct writing *w, const struct tasking_events *e)
{
	const struct directives *d = &w->t->d;
	const char *text = e->text ? e->text : "";
	size_t whole = strlen(text), at = 0, most = SIZE_MAX;

	if (d->stream_error > 0)
		most = (size_t)d->stream_error - 1;
	if (d->cut_after > 0 && (size_t)d->cut_after < most)
		most = (size_t)d->cut_after;
	while (w->pieces < most && (d->pieces > 0 ? w->pieces < (size_t)d->pieces : at < whole)) {
		size_t n = piece_len(d, text + at, whole - at, whole, w->pieces++);

		add_chunk(w, e->object, text + at, n);
		at += n;
	}
}

void tasking_stream(struct tasking *t, const struct tasking_events *e)
{
	struct writing w = {.t = t, .out = &t->a->body};

	if (t->d.bom)
		buf_lit(w.out, "\xef\xbb\xbf");
	add_lines(&w, e->before);
	if (e->object)
		add_chunks(&w, e);
	finish(&w, e);
	send(&w);
}
