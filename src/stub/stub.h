/* SPDX-License-Identifier: MIT
 *
 * What both APIs that the stub plays share: its settings, its record of calls. On the server's thread only. */
#ifndef ADWUMA_STUB_STUB_H
#define ADWUMA_STUB_STUB_H

#include "httpd/httpd.h"
#include "stub/calls.h"
#include "stub/directives.h"

struct store;

#define STUB_KEYS_MAX 16
#define STUB_TTS_LIMIT_DEFAULT 2000
#define STUB_TTS_LIMIT_MAX 1000000

struct stub {
	const char *keys[STUB_KEYS_MAX]; /* accepted; none of a service's: every key but 32 zeros */
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
	struct store *store; /* what TaskingAI's clients have created */
	bool tls;	     /* what it is reached by */
	bool hosted;	     /* plays TaskingAI's hosted edition */
};

#endif
