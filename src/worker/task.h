/* SPDX-License-Identifier: MIT
 *
 * A task is a claimed job in this process: slot n of a line is task n, so a slot number cannot be used again before its task is finished
 * with, whatever Redis says.
 *
 * Who holds a task, holds it alone: the line (free, or claimed), then the stock (waiting), then a pool thread (running), then the line again
 * (done: waiting to be settled). Memory for results is kept from job to job, up to TASK_KEEP_BYTES. */
#ifndef ADWUMA_WORKER_TASK_H
#define ADWUMA_WORKER_TASK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/units.h"
#include "job/job.h"
#include "job/outcome.h"
#include "queue/turn.h"

#define TASK_KEEP_BYTES 2048

struct http;
struct line;

struct task {
	struct line *line;
	struct task *next; /* in whatever list holds it */
	unsigned slot;
	unsigned generation; /* of the worker id it was claimed under */
	unsigned lease;	     /* the line's count of leases then */
	bool busy; /* claimed and not yet settled; with the next, written under the line's lock, because the keeper looks */
	bool parsed;
	_Atomic bool cancelled; /* its producer no longer wants it */
	struct http *calling;	/* under the line's lock: whose call this job runs in */
	bool bad;		/* parsed: the job is invalid, fault says why */
	char *payload;		/* owned */
	size_t payload_len;
	struct job job;
	struct fault fault; /* of an invalid job */
	int64_t started_us; /* mono; when a thread took it */
	/* How it is to be settled, once done. */
	enum settle_how how;
	const char *outcome; /* static */
	bool audio;
	bool has_dead;
	bool forget_pieces;
	bool streams;		    /* its stream must be told */
	struct outcome_value value; /* of result or error, in body */
	int64_t next_attempt;
	struct units billed; /* what was sent in this run, until it is counted */
	struct buf body;
	struct buf dead;
	int64_t number;
};

/* The last pair of a log line about a job, where it has one; NULL must follow. */
#define TASK_TRACE(t)                                                                                                  \
	(*job_string(&(t)->job, JOB_TRACEPARENT, "") ? "traceparent" : NULL), job_string(&(t)->job, JOB_TRACEPARENT, "")

/* Reads the payload, unless it was read already; sets bad and fault. The thread that holds the task. */
void task_parse(struct task *t);

#endif
