/* SPDX-License-Identifier: MIT
 *
 * What came of one attempt at a job, and the result's JSON (contract section 4). Pure. */
#ifndef ADWUMA_JOB_OUTCOME_H
#define ADWUMA_JOB_OUTCOME_H

#include <stdbool.h>
#include <stdint.h>

#include "job/fault.h"
#include "job/job.h"

enum outcome_kind {
	OUTCOME_SUCCEEDED, /* result holds the value of "result" */
	OUTCOME_FAILED,	   /* fault says why; final */
	OUTCOME_RETRY,	   /* fault says why; may be tried again while attempts are left */
};

#define RETRY_AFTER_NONE (-1)

struct outcome {
	enum outcome_kind kind;
	struct buf result; /* JSON text */
	struct fault fault;
	int64_t retry_after_ms; /* what the server asked for, else RETRY_AFTER_NONE */
	int64_t tries_max;	/* OUTCOME_RETRY: so often in all, whatever else allows more; 0: no bound of its own */
	int64_t tokens;		/* what the service says that it used */
	bool nothing_done;	/* the answer says that the request was not carried out */
	bool unclear;		/* no whole answer came: the request may have been carried out */
	struct buf audio;	/* synthesize: the bytes, to be delivered as job field "output" says */
	char audio_type[256];	/* their content type */
};

void outcome_init(struct outcome *o);
void outcome_release(struct outcome *o);
void outcome_clear(struct outcome *o); /* empty again; keeps small memory */

/* The facts about a job's run that stand in its result beside the outcome. */
struct outcome_facts {
	const char *queue;
	const char *worker;
	int64_t attempts;      /* tries made; 0: refused before the first */
	int64_t started_at_ms; /* of the last; 0: null */
	int64_t finished_at_ms;
	double api_ms;
	struct units billed; /* what was sent for it, in all tries */
};

/* Where in the result object the value of its member result or error stands: counted from its first byte, to behind the value's last. */
struct outcome_value {
	size_t from, to;
};
/* The whole result object. Appends to out. */
struct outcome_value outcome_result_json(const struct job *job, const struct outcome *o,
					 const struct outcome_facts *facts, struct buf *out);
/* {"job":…,"error":…,"died_at_ms":…}: job is the payload itself, or a string, or job_base64; null where the payload alone is over max_bytes,
 * which no dead list could keep (and Redis itself refuses values of 512 MiB). Appends to out. */
void outcome_dead_json(const struct job *job, const struct fault *fault, int64_t died_at_ms, size_t max_bytes,
		       struct buf *out);

/* How long to wait before the try after `attempts` were made (>= 1): min(2^(attempts-1) + U(0,1), 60) s; what the server asked for
 * stands instead, up to an hour, with up to a tenth (at most 5 s) more, never less. random01 in [0, 1). */
int64_t outcome_retry_delay_ms(int64_t attempts, int64_t retry_after_ms, double random01);

#endif
