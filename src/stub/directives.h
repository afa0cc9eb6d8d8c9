/* SPDX-License-Identifier: MIT
 *
 * What a test may ask the stub to do wrong: a list like `status=503,retry_after=2,times=1`, inside stub(...) in a text
 * or a language, in the header X-Stub, by --fault, or by PUT /_stub/fault. `then` in a list begins another rule: the
 * first whose conditions hold is carried out. */
#ifndef ADWUMA_STUB_DIRECTIVES_H
#define ADWUMA_STUB_DIRECTIVES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "httpd/httpd.h"

#define STUB_MS_MAX (24LL * 3600 * 1000) /* nobody tests longer; the clock's arithmetic stays far from its ends */

/* Which body to send in place of the right one; E1, E2 and E3 are the API's three envelopes. */
enum wrong_body {
	BODY_FITTING, /* what usually comes with the status */
	BODY_E1,
	BODY_E2,
	BODY_E3,
	BODY_HTML,
	BODY_TEXT,
	BODY_EMPTY,
	BODY_JSON, /* well-formed, and not what was asked for */
	BODY_BROKEN,
	BODY_CHALLENGE,
	BODY_STOPPED,
	/* The directive brings along what they need. */
	BODY_LITERAL,
	BODY_QUOTA,
	BODY_QUOTA_DAYS,
	BODY_BANDWIDTH,
	BODY_RATE,
};

/* A value, borrowed from the list; ptr NULL: not given. */
struct words {
	const char *ptr;
	size_t len;
};

#define DIRECTIVES_LINE_MAX 127 /* of what goes into a header */
#define DIRECTIVES_HEADERS_MAX 4

struct directives {
	/* When. */
	int64_t after, times; /* times 0: always */
	bool each, reused;
	struct words word, path;
	/* What, in place of the right answer. */
	int status; /* 0: none asked for */
	enum wrong_body body;
	struct words literal; /* of BODY_LITERAL: good base64 */
	struct words detail;
	int64_t wait_s; /* of BODY_QUOTA and those after it */
	/* TaskingAI's: of an error, of an answer, of a stream. */
	struct words code, message, say, end, embedding, target;
	bool message_object, empty_message, call, locked, no_vectors;
	int64_t target_status;
	int64_t pieces, pace_ms, split, stream_error, cut_after;
	bool crlf, cr, comments, multiline, raw_utf8, after_done, not_json, bad_unicode, astral, empty_deltas,
		unknown_object, stamp;
	/* What is done to the answer, right or wrong. */
	struct {
		const char *name;
		struct words value;
	} headers[DIRECTIVES_HEADERS_MAX];
	size_t nheaders;
	struct words type; /* empty: none */
	const char *slip;  /* JSON put at the end of the answer's text; NULL: nothing */
	bool escaped, bom, gzip, chunked, streamed;
	int64_t wav_size; /* where streamed */
	/* How. */
	int64_t delay_ms, body_delay_ms, dribble_ms;
	enum httpd_manner manner;
};

#define RULES_MAX 8

struct rules {
	struct directives rule[RULES_MAX]; /* the first n are set */
	size_t n;
};

/* *rules then borrows from text, which must end with a NUL somewhere. False with *bad set to the part that is not understood (borrowed from text). */
bool rules_parse(struct rules *rules, const char *text, size_t len, const char **bad);
bool words_are(struct words w, const char *text); /* false where nothing was given */
/* Finds stub(...) in text: the inside, or NULL. */
const char *directives_find(const char *text, size_t *len);
/* One line per directive, for --help. */
void directives_help(FILE *to);

#endif
