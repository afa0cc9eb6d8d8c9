/* SPDX-License-Identifier: MIT
 *
 * What a test may ask the stub to do wrong: a list like `status=503,retry_after=2,times=1`, inside stub(...) in a text or a language, in the
 * header X-Stub, by --fault, or by PUT /_stub/fault. */
#ifndef ADWUMA_STUB_DIRECTIVES_H
#define ADWUMA_STUB_DIRECTIVES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "httpd/httpd.h"

struct directives {
	int status;    /* 0: none asked for */
	char body[16]; /* "": the fitting envelope */
	char retry_after[64];
	bool has_retry_after;
	int64_t delay_ms, body_delay_ms, dribble_ms;
	enum httpd_manner manner;
	int64_t times; /* 0: always */
};

/* Adds what text says to *d. False with *bad set to the part that is not understood (borrowed from text). */
bool directives_parse(struct directives *d, const char *text, size_t len, const char **bad);
/* Finds stub(...) in text: the inside, or NULL. */
const char *directives_find(const char *text, size_t *len);
/* One line per directive, for --help. */
const char *directives_help(void);

#endif
