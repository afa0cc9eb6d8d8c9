/* SPDX-License-Identifier: MIT
 *
 * Entries (segments or words, as they came, sorted) are cut into tokens (words at most a line long, each with its time), and tokens are
 * gathered into cues. */
#include "cli/subtitles.h"

#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "text/grapheme.h"

#define LINE_WIDTH 42
#define CUE_LINES 2
#define PAUSE_MS 800	      /* a longer silence between words ends a cue */
#define CUE_MS 7000	      /* no word is added that would make a cue longer */
#define SENTENCE_MS 2000      /* a sentence's end ends a cue that is at least so long */
#define TIME_MAX_MS 360000000 /* beyond it players expect no time */

struct entry {
	const char *text; /* borrowed from the JSON */
	size_t index;
	int64_t start, end; /* ms */
};

enum join { JOIN_SPACE, JOIN_LINE, JOIN_CUE };

struct token {
	const char *text;
	size_t bytes, width;
	int64_t start, end;
	bool first;	  /* of its entry */
	enum join before; /* what stands between it and the token before */
};

struct cue {
	size_t first, end; /* tokens */
	int64_t start_ms, end_ms;
};

struct subtitles {
	bool words; /* entries are words */
	struct entry *entries;
	struct token *tokens;
	struct cue *cues;
	size_t nentries, ntokens, ncues, entry_room, token_room, cue_room;
	bool failed; /* no memory */
};

/* Room for one more of size bytes each; NULL when there is none. */
static void *grow(struct subtitles *s, void *list, size_t count, size_t *room, size_t size)
{
	size_t more = *room ? *room * 2 : 64;
	void *p = list;

	if (count == *room) {
		p = realloc(list, more * size);
		if (p)
			*room = more;
		else
			s->failed = true;
	}
	return p;
}

/* --- Entries. ----------------------------------------------------------------------------------------------------- */

/* A number in decimals that lies half way between two milliseconds is hardly ever a double that does: a hair more rounds them all up. */
static int64_t milliseconds(const struct json *seconds, int64_t otherwise)
{
	double s;

	if (!json_double(seconds, &s) || isnan(s))
		return otherwise;
	if (s <= 0)
		return 0;
	if (s >= TIME_MAX_MS / 1e3)
		return TIME_MAX_MS;
	return (int64_t)floor(s * 1e3 + 0.5 + 1e-6);
}

static int by_start(const void *a, const void *b)
{
	const struct entry *x = a, *y = b;

	if (x->start != y->start)
		return x->start < y->start ? -1 : 1;
	return x->index < y->index ? -1 : x->index > y->index;
}

static void read_entries(struct subtitles *s, const struct json *list, const char *name)
{
	int64_t before = 0;

	s->nentries = 0;
	if (json_type(list) != JSON_ARRAY)
		return;
	for (const struct json *item = json_first(list); item && !s->failed; item = json_next(item)) {
		struct entry e = {.text = json_text(json_get(item, name)), .index = s->nentries};
		struct entry *room;

		if (!e.text)
			continue;
		e.start = milliseconds(json_get(item, "start"), before);
		e.end = milliseconds(json_get(item, "end"), e.start);
		if (e.end < e.start)
			e.end = e.start;
		before = e.end;
		room = grow(s, s->entries, s->nentries, &s->entry_room, sizeof e);
		if (!room)
			return;
		s->entries = room;
		s->entries[s->nentries++] = e;
	}
	if (s->nentries > 0)
		qsort(s->entries, s->nentries, sizeof *s->entries, by_start);
}

/* --- Tokens. ------------------------------------------------------------------------------------------------------ */

static bool is_blank(struct grapheme g)
{
	return grapheme_is_white(g) || g.first < ' ' || (g.first >= 0x7f && g.first < 0xa0);
}

static void add_token(struct subtitles *s, struct token t)
{
	struct token *room = grow(s, s->tokens, s->ntokens, &s->token_room, sizeof t);

	if (!room)
		return;
	s->tokens = room;
	s->tokens[s->ntokens++] = t;
}

static void share_time(struct token *tokens, size_t n, const struct entry *e)
{
	int64_t all = 0, at = 0;

	for (size_t i = 0; i < n; i++)
		all += (int64_t)tokens[i].width;
	for (size_t i = 0; i < n; i++) {
		tokens[i].start = e->start + (e->end - e->start) * at / all;
		at += (int64_t)tokens[i].width;
		tokens[i].end = e->start + (e->end - e->start) * at / all;
	}
}

static void cut_entry(struct subtitles *s, const struct entry *e)
{
	size_t n = strlen(e->text), began = s->ntokens;
	struct token t = {0};

	for (size_t at = 0; at <= n && !s->failed;) {
		struct grapheme g = at < n ? grapheme_first(e->text + at, n - at) : (struct grapheme){.bytes = 1};

		if (t.width == LINE_WIDTH || (t.width > 0 && is_blank(g))) {
			add_token(s, t);
			t = (struct token){0};
		}
		if (!is_blank(g)) {
			if (t.width++ == 0) {
				t.text = e->text + at;
				t.first = s->ntokens == began;
			}
			t.bytes += g.bytes;
		}
		at += g.bytes;
	}
	if (!s->failed && s->ntokens > began)
		share_time(s->tokens + began, s->ntokens - began, e);
}

static void cut_entries(struct subtitles *s)
{
	for (size_t i = 0; i < s->nentries && !s->failed; i++)
		cut_entry(s, &s->entries[i]);
}

/* --- Cues. -------------------------------------------------------------------------------------------------------- */

static bool drop_end(const char *text, size_t *n, const char *end)
{
	size_t len = strlen(end);

	if (*n < len || memcmp(text + *n - len, end, len) != 0)
		return false;
	*n -= len;
	return true;
}

static bool drop_any(const char *text, size_t *n, const char *const *ends)
{
	for (; *ends; ends++)
		if (drop_end(text, n, *ends))
			return true;
	return false;
}

static bool ends_sentence(const struct token *t)
{
	static const char *const closing[] = {"\"",	      "'",	  ")", "]", "\xe2\x80\x9d", "\xe2\x80\x9c",
					      "\xe2\x80\x99", "\xc2\xbb", NULL};
	static const char *const stops[] = {".", "!", "?", "\xe2\x80\xa6", NULL};
	size_t n = t->bytes;

	while (drop_any(t->text, &n, closing))
		;
	return drop_any(t->text, &n, stops);
}

/* Whether a cue ends before t although there is room for it. */
static bool is_due(const struct subtitles *s, const struct cue *c, const struct token *t)
{
	const struct token *last = t - 1;

	if (!s->words)
		return t->first;
	return t->start - c->end_ms > PAUSE_MS || t->end - c->start_ms > CUE_MS ||
	       (ends_sentence(last) && c->end_ms - c->start_ms >= SENTENCE_MS);
}

static void begin_cue(struct subtitles *s, size_t token)
{
	struct cue *room = grow(s, s->cues, s->ncues, &s->cue_room, sizeof *room);
	const struct token *t = &s->tokens[token];

	if (!room)
		return;
	s->cues = room;
	s->cues[s->ncues++] = (struct cue){token, token + 1, t->start, t->end};
}

static void gather_cues(struct subtitles *s)
{
	size_t width = 0, lines = 0;

	for (size_t i = 0; i < s->ntokens && !s->failed; i++) {
		struct token *t = &s->tokens[i];
		struct cue *c = s->ncues > 0 ? &s->cues[s->ncues - 1] : NULL;

		if (c && width + 1 + t->width <= LINE_WIDTH)
			t->before = JOIN_SPACE;
		else
			t->before = c && lines < CUE_LINES ? JOIN_LINE : JOIN_CUE;
		if (!c || is_due(s, c, t))
			t->before = JOIN_CUE;
		if (t->before == JOIN_CUE) {
			begin_cue(s, i);
			lines = 1;
			width = t->width;
			continue;
		}
		lines += t->before == JOIN_LINE;
		width = t->before == JOIN_LINE ? t->width : width + 1 + t->width;
		c->end = i + 1;
		c->end_ms = t->end > c->end_ms ? t->end : c->end_ms;
	}
}

/* A cue that overlaps the one before cuts that short; one that begins no later shares the time of both with it. */
static void separate_cues(struct subtitles *s)
{
	for (size_t i = 0; i < s->ncues; i++) {
		struct cue *c = &s->cues[i], *last = i > 0 ? c - 1 : NULL;

		if (last && c->start_ms <= last->start_ms) {
			int64_t end = c->end_ms > last->end_ms ? c->end_ms : last->end_ms;

			c->start_ms = last->start_ms + (end - last->start_ms) / 2;
			if (c->start_ms <= last->start_ms)
				c->start_ms = last->start_ms + 1;
			last->end_ms = c->start_ms;
		}
		if (c->end_ms <= c->start_ms)
			c->end_ms = c->start_ms + 1;
		if (last && last->end_ms > c->start_ms)
			last->end_ms = c->start_ms;
	}
}

/* --- Writing. ----------------------------------------------------------------------------------------------------- */

static void write_time(struct buf *out, int64_t ms, char point)
{
	buf_printf(out, "%02" PRId64 ":%02d:%02d%c%03d", ms / 3600000, (int)(ms / 60000 % 60), (int)(ms / 1000 % 60),
		   point, (int)(ms % 1000));
}

/* WebVTT has escapes. SRT has none; the arrow that stands between its times must not stand in its text. */
static void write_token(struct buf *out, const struct token *t, enum subtitles_format format)
{
	for (size_t i = 0; i < t->bytes; i++) {
		char c = t->text[i];

		if (format == SUBTITLES_VTT && c == '&') {
			buf_lit(out, "&amp;");
		} else if (format == SUBTITLES_VTT && c == '<') {
			buf_lit(out, "&lt;");
		} else if (format == SUBTITLES_VTT && c == '>') {
			buf_lit(out, "&gt;");
		} else if (format == SUBTITLES_SRT && t->bytes - i >= 3 && memcmp(t->text + i, "-->", 3) == 0) {
			buf_lit(out, "\xe2\x86\x92"); /* U+2192, an arrow */
			i += 2;
		} else {
			buf_char(out, c);
		}
	}
}

static void write_cues(const struct subtitles *s, enum subtitles_format format, struct buf *out)
{
	static const char joins[] = {[JOIN_SPACE] = ' ', [JOIN_LINE] = '\n'};
	char point = format == SUBTITLES_SRT ? ',' : '.';

	if (format == SUBTITLES_VTT)
		buf_lit(out, "WEBVTT\n\n");
	for (size_t i = 0; i < s->ncues; i++) {
		const struct cue *c = &s->cues[i];

		if (i > 0)
			buf_char(out, '\n');
		if (format == SUBTITLES_SRT)
			buf_printf(out, "%zu\n", i + 1);
		write_time(out, c->start_ms, point);
		buf_lit(out, " --> ");
		write_time(out, c->end_ms, point);
		buf_char(out, '\n');
		for (size_t k = c->first; k < c->end; k++) {
			if (k > c->first)
				buf_char(out, joins[s->tokens[k].before]);
			write_token(out, &s->tokens[k], format);
		}
		buf_char(out, '\n');
	}
}

int subtitles_write(const struct json *timings, enum subtitles_format format, struct buf *out, struct error *err)
{
	const char *unit = json_text(json_get(timings, "unit"));
	struct subtitles s = {0};
	int rc = 0;

	if (json_type(timings) != JSON_OBJECT)
		return error_set(err, ERR_INVALID,
				 "the transcription has no timings: ask for them with --timestamps segment");
	if (unit && strcmp(unit, "seconds") != 0)
		return error_set(err, ERR_INVALID, "the transcription's times are in %.40s; only seconds are known",
				 unit);
	read_entries(&s, json_get(timings, "segments"), "text");
	cut_entries(&s);
	if (s.ntokens == 0) {
		s.words = true;
		read_entries(&s, json_get(timings, "words"), "word");
		cut_entries(&s);
	}
	gather_cues(&s);
	separate_cues(&s);
	if (!s.failed && s.ncues > 0)
		write_cues(&s, format, out);
	if (s.failed || out->failed)
		rc = error_set(err, ERR_MEMORY, "no memory for the subtitles");
	else if (s.ncues == 0)
		rc = error_set(err, ERR_INVALID,
			       "the transcription's timings hold no words: nothing was said in the audio");
	free(s.entries);
	free(s.tokens);
	free(s.cues);
	return rc;
}
