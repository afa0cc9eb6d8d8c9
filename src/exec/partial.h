/* SPDX-License-Identifier: MIT
 *
 * Partial output of a streaming job on its way into stream:<id>, while its call runs.
 *
 * Pieces are written as they come, by the thread that makes the call: what came while it waited for Redis goes with the next trip, so a stream
 * that is faster than the trips needs fewer of them. Where Redis is away they wait in memory (no more of them than max_response_bytes lets
 * come) and follow when it is back. None is written twice or after its attempt was replaced (lua/stream.lua).
 *
 * Ownership: one thread; the side connection is the thread's. */
#ifndef ADWUMA_EXEC_PARTIAL_H
#define ADWUMA_EXEC_PARTIAL_H

#include "exec/side.h"
#include "queue/keys.h"

struct partial {
	struct side *side;
	char stream[KEY_MAX], cursor[KEY_MAX], slot[KEY_MAX];
	char attempt[WORKER_ID_MAX + 48]; /* its name */
	int64_t ttl_ms;
	int64_t next;	     /* number of the first piece that waits, from 1; 0: nothing is written (any more) */
	struct buf waiting;  /* pieces, one behind the other */
	struct buf lengths;  /* of each, a size_t */
	size_t done;	     /* bytes of waiting that are written */
	int64_t retry_at_ms; /* mono; not before that is Redis asked again */
};
void partial_init(struct partial *p, struct side *side);
void partial_release(struct partial *p);

struct partial_job {
	const struct keys *keys;
	const char *id, *worker;
	unsigned slot;
	const char *payload; /* what the slot must hold */
	size_t payload_len;
	int64_t attempt; /* which this is, from 1 */
	int64_t ttl_ms;
};
enum partial_begun {
	PARTIAL_READY,
	PARTIAL_TAKEN,	 /* the slot does not hold the job (any more): it must not be called */
	PARTIAL_REFUSED, /* Redis refuses, err says why; the call may be made without */
	PARTIAL_NO_REDIS,
};
/* Before the call. Replaces whoever wrote before. */
enum partial_begun partial_begin(struct partial *p, const struct partial_job *job, struct error *err);
/* Keeps a piece (copied). */
void partial_add(struct partial *p, const char *json, size_t n);
/* Writes what waits, where Redis can be used; else it waits on. In how many ms to try again; -1: nothing waits. */
int64_t partial_flush(struct partial *p);
/* After the call. True: all that came is written, or need not be. False: try again a little later. */
bool partial_finish(struct partial *p);

#endif
