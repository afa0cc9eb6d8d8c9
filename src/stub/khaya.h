/* SPDX-License-Identifier: MIT
 *
 * The Khaya API as the stub plays it: routes, checks in the real order, bodies. Runs on the server's thread. */
#ifndef ADWUMA_STUB_KHAYA_H
#define ADWUMA_STUB_KHAYA_H

#include "httpd/httpd.h"
#include "stub/calls.h"
#include "stub/directives.h"

#define STUB_KEYS_MAX 16
#define STUB_TTS_LIMIT_DEFAULT 2000
#define STUB_TTS_LIMIT_MAX 1000000

struct stub {
	const char *keys[STUB_KEYS_MAX]; /* accepted; none: every key but 32 zeros */
	size_t nkeys;
	bool strict_codes;	  /* older spellings of languages are refused, not warned about */
	bool older_too_long;	  /* E3 in place of E1 where a text to translate is too long */
	int64_t tts_limit;	  /* code points of a text to speak */
	int64_t delay_ms;	  /* of every answer whose directives ask for no delay */
	struct rules everywhere;  /* asked for by flag or control request */
	char *everywhere_list;	  /* what they borrow from; NULL: nothing */
	char everywhere_name[32]; /* each time another, so that calls are counted anew */
	unsigned everywhere_number;
	struct calls *calls;
};

/* From now on. False with *bad set to the part of list that is not understood, and nothing changed. */
bool khaya_everywhere(struct stub *s, const char *list, size_t len, const char **bad);
void khaya_answer(struct stub *s, const struct httpd_request *r, struct httpd_answer *a);

#endif
