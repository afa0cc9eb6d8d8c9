/* SPDX-License-Identifier: MIT
 *
 * A job before it is pushed: checked as far as a producer must, with an id, and its queue known. Pure but for the
 * random id. */
#ifndef ADWUMA_LIB_DRAFT_H
#define ADWUMA_LIB_DRAFT_H

#include <stdbool.h>
#include <stddef.h>

#include "adwuma.h"
#include "base/buf.h"
#include "base/err.h"
#include "base/json.h"
#include "settings/settings.h"

struct draft {
	char queue[QUEUE_NAME_MAX + 1];
	char id[ADWUMA_ID_MAX + 1];
	struct span payload; /* the caller's text, or, where an id had to be put in, scratch */
};

/* queue: NULL, or where the job goes. id: NULL or "", or the id for a job that has none. scratch: kept by the caller
 * between drafts; its bound is the largest job. Returns 0, or -1 with ERR_INVALID saying what is wrong with the job. */
int draft_make(struct draft *d, const char *queue, const char *json, size_t len, const char *id, struct buf *scratch,
	       struct error *err);

bool draft_is_queue(const char *s, size_t n); /* contract section 2 */
bool draft_is_id(const char *s, size_t n);    /* contract section 3; names of audio keys too */

#endif
