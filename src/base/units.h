/* SPDX-License-Identifier: MIT
 *
 * What remote services bill for: requests that went out, and what was in them. Counted for every request sent, whatever came of it. Pure. */
#ifndef ADWUMA_BASE_UNITS_H
#define ADWUMA_BASE_UNITS_H

#include <stdint.h>

#include "base/buf.h"
#include "base/json.h"

/* Names are those of metrics and of a result's "billed". */
enum unit {
	UNIT_REQUEST,
	UNIT_CHARACTER,	   /* code points of text */
	UNIT_AUDIO_SECOND, /* each request's rounded up; where the audio's header tells */
	UNIT_TOKEN,
	UNITS
};
extern const char *const unit_names[UNITS];

struct units {
	int64_t n[UNITS];
};

void units_add(struct units *to, const struct units *more);
/* {"request":2,"character":24}: those that are not 0. Appends to out. */
void units_json(const struct units *u, struct buf *out);
/* Reads such an object; what it does not know, or is no number from 0 to 2^53, counts as 0. */
void units_read(struct units *u, struct span object);

#endif
