/* SPDX-License-Identifier: MIT
 *
 * What a test may ask the stub to do wrong: a list like `status=503,retry_after=2,times=1`, inside stub(...) in a text
 * or a language, in the header X-Stub, by --fault, or by PUT /_stub/fault. */
#ifndef ADWUMA_STUB_DIRECTIVES_H
#define ADWUMA_STUB_DIRECTIVES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

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
	BODY_LITERAL, /* the directive brings it along */
};

#define DIRECTIVES_LINE_MAX 127

/* The value of a header. */
struct directives_line {
	char text[DIRECTIVES_LINE_MAX + 1];
	bool given;
};

struct directives {
	int status; /* 0: none asked for */
	enum wrong_body body;
	const char *literal; /* of BODY_LITERAL: good base64, borrowed from what was parsed */
	size_t literal_len;
	struct directives_line retry_after, type;
	int64_t delay_ms, body_delay_ms, dribble_ms;
	enum httpd_manner manner;
	int64_t times; /* 0: always */
};

/* Adds what text says to *d, which then borrows from text. False with *bad set to the part that is not understood (borrowed from text). */
bool directives_parse(struct directives *d, const char *text, size_t len, const char **bad);
/* Finds stub(...) in text: the inside, or NULL. */
const char *directives_find(const char *text, size_t *len);
/* One line per directive, for --help. */
const char *directives_help(void);

#endif
