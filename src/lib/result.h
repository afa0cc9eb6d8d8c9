/* SPDX-License-Identifier: MIT
 *
 * A result (contract section 4) as callers of the library see it. Its parts are decoded when they are first asked for. One thread at a time. */
#ifndef ADWUMA_LIB_RESULT_H
#define ADWUMA_LIB_RESULT_H

#include <stdbool.h>
#include <stdint.h>

#include "adwuma.h"
#include "base/buf.h"
#include "base/json.h"

struct result_parts;

/* Small, since there are thousands at once. */
struct adwuma_result {
	char *json;		    /* owned; NULL: none */
	struct result_parts *parts; /* owned; what was asked for so far, NULL: nothing */
	uint32_t value_at;	    /* in json, of "result" or, where the job failed, of "error" */
	uint32_t value_len : 31, succeeded : 1;
};

/* Takes json over (not NULL, under 2 GiB: Redis has no longer one). A text that is no result is one that failed. id: NULL, or gets
 * the JSON of its id. */
void result_init(adwuma_result *r, char *json, size_t len, struct span *id);
void result_release(adwuma_result *r);
/* The same on the heap: returns owned; NULL when there is no memory, and json is freed then too. NULL is passed on. */
adwuma_result *result_take(char *json, size_t len);
/* What a direct call made goes with it: audio is taken over. */
void result_set_audio(adwuma_result *r, struct buf *audio);

#endif
