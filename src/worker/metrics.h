/* SPDX-License-Identifier: MIT
 *
 * What is counted for /metrics (contract section 6): how jobs ended and how long they took, how long they had waited, how long the services took
 * to answer and how often they refused. Counters are added to by any thread, and no lock is taken; whoever prints sees each as it is just then.
 *
 * Series are made when something first happens in them, for there are as many types as operations; those of a queue that is named like a type
 * are there from the start, so that a first failure is seen as a step up from 0. */
#ifndef ADWUMA_WORKER_METRICS_H
#define ADWUMA_WORKER_METRICS_H

#include "base/buf.h"
#include "base/err.h"
#include "job/job.h"
#include "settings/settings.h"

struct metrics;
struct queue_metrics;

struct metrics *metrics_new(const struct settings *s, struct error *err); /* s is borrowed */
void metrics_free(struct metrics *m);					  /* NULL is fine */
struct queue_metrics *metrics_queue(struct metrics *m, size_t queue);

/* A settlement was carried out. type NULL: unknown. took_us: from when a thread took the job; below 0: none had. */
void metrics_ended(struct queue_metrics *q, const struct job_type *type, const char *outcome, int64_t took_us);
/* A job's first try begins, so long after it could have. */
void metrics_waited(struct queue_metrics *q, int64_t ms);
/* A request was made, whatever came of it. */
void metrics_called(struct metrics *m, const struct job_type *type, double ms);
/* What came of it is no success. status: 0 where no status line came. */
void metrics_refused(struct metrics *m, const struct job_type *type, long status);
/* All of it as Prometheus' text. */
void metrics_print(const struct metrics *m, struct buf *out);

#endif
