/* SPDX-License-Identifier: MIT
 *
 * A fault is why a job failed, in the shape every producer reads (contract section 4). Pure. */
#ifndef ADWUMA_JOB_FAULT_H
#define ADWUMA_JOB_FAULT_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"

#define FAULT_MESSAGE_MAX (16 * 1024) /* bytes; contract section 4 */

struct fault {
	const char *type;	/* static: "APIError", "InvalidJobError", … */
	struct buf message;	/* UTF-8 */
	int status_code;	/* 0: no HTTP answer, but for the SDK's own checks */
	struct buf code;	/* empty: null */
	struct buf details;	/* JSON array as text; empty: [] */
	struct buf activity_id; /* empty: null */
	bool retryable;		/* the same job, sent again later, could succeed */
	const char *service;	/* static: "khaya", "taskingai"; NULL: null */
};

void fault_init(struct fault *f);
void fault_release(struct fault *f); /* also of one all zero */
/* Sets type, status and message; leaves code, details, activity id empty and retryable false; keeps service. */
void fault_set(struct fault *f, const char *type, int status_code, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
void fault_json(const struct fault *f,
		struct buf *out); /* the error object, all eight fields, message cut at FAULT_MESSAGE_MAX */

#endif
