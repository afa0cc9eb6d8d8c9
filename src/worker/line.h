/* SPDX-License-Identifier: MIT
 *
 * A line is one queue's traffic with Redis: one I/O thread with two connections. A carries turns (settle what is done and claim
 * more, in one trip); B waits in BLMOVE when the queue is empty, so that a job is taken the moment it is pushed.
 *
 * Two gears. While few jobs end, each is settled at once. From FAST_JOBS_PER_MS on, up to BATCH_JOBS or GATHER_US of them are gathered for
 * a trip, without a wake-up per job. What a turn brings goes to the stock, what pool threads finish comes back through line_done().
 *
 * When a connection breaks the turn in flight is kept and sent again: the script does nothing twice, and a claim repeated for the same slots
 * returns what they already hold. So adopting what a lost reply had brought is no case of its own.
 *
 * Worker ids have generations: base.N. When we are struck off, what waits is handed back, what runs goes on and offers its results under
 * the old id (they may be fenced), and new jobs are taken under the next id. */
#ifndef ADWUMA_WORKER_LINE_H
#define ADWUMA_WORKER_LINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "worker/context.h"
#include "worker/stock.h"
#include "worker/task.h"

struct line;

#define LINE_REPLACED "another Redis has taken its place" /* why a connection is given up that works */

/* Something a line must tell the keeper; any thread. */
struct line_listener {
	void (*due)(void *keeper, int64_t in_ms); /* a job was put into delayed, due in so many ms */
	void (*unlisted)(void *keeper);		  /* a claim found the worker struck off */
	void *keeper;
};

/* ctx and stock are borrowed. Returns owned. No thread runs yet. */
struct line *line_new(struct context *ctx, struct stock *stock, size_t queue, struct line_listener listener,
		      struct error *err);
void line_free(struct line *l);
int line_start(struct line *l, struct error *err);
/* Returns when the I/O thread has ended: after PHASE_DRAIN, when every job is settled and the worker is off the list (true), or after
 * PHASE_GIVE_UP (false: Redis could not be reached, jobs are left in their slots for the keeper of another worker). */
bool line_join(struct line *l);
bool line_ended(const struct line *l);	      /* line_join will not block */
int64_t line_turned_ms(const struct line *l); /* mono: when its loop last turned; 0: it was not started */
bool line_leaving(const struct line *l);      /* it takes itself off the list, or has done so */
void line_wake(struct line *l);		      /* any thread: look again at phase, pause, demand */

const char *line_queue(const struct line *l);
const struct settings *line_settings(const struct line *l);
const struct queue_settings *line_queue_settings(const struct line *l);
const struct keys *line_keys(const struct line *l);
size_t line_index(const struct line *l);
unsigned line_slots(const struct line *l); /* how many slots it may fill */
unsigned line_busy(struct line *l);	   /* claimed and not yet settled */
/* Unix time in ms by the clock of the Redis that has the queue: due times and expiry are the same for all workers, whatever their own clocks
 * say. Any thread. */
int64_t line_now_ms(const struct line *l);

/* Pool threads. A finished task, with how it is to be settled; takes it. */
void line_done(struct line *l, struct task *t);
/* I/O thread and keeper thread. A connection for this queue was made just now. Those that were made before and are to another Redis, or to another run of
 * this one, are given up by their owners: no job comes there any more, and no lease counts. */
void line_arrived(struct line *l, const struct redis *r);
/* Whether it is to the Redis at which was arrived last. */
bool line_is_at(struct line *l, const struct redis *r);
/* Before a call: false where the lease under which the task was claimed may have run out, and no call may begin. Else http, which an earlier
 * cancel may have aborted, is fit again, and is what a cancel of this job aborts until line_done(). */
bool line_begin_call(struct line *l, struct task *t, struct http *http);
/* The worker id of a generation. */
void line_worker_id(const struct line *l, unsigned generation, char out[WORKER_ID_MAX + 1]);
unsigned line_generation(struct line *l);

/* Keeper thread. */
void line_set_ahead(struct line *l, int64_t ahead_ms); /* of that clock, of ours */
void line_renewed(struct line *l,
		  int64_t lease_until_boot_ms); /* the lease of the current generation holds until then */
bool line_lease_out(struct line *l);		/* by our own clock the lease had run out, whatever Redis told of it */
void line_lease_lost(struct line *l); /* on to the next generation; it must be registered before anything is claimed */
/* The lease had run out and could be renewed: somebody may have taken jobs meanwhile, so what has not begun is handed back. Before line_renewed. */
void line_lease_lapsed(struct line *l);
bool line_owns(struct line *l, const char *worker); /* a former id of ours whose jobs still run here */
void line_pause(struct line *l, bool paused);
/* Jobs that are here and not yet settled, from slot *from on, which moves on. Returns how many, 0 at the end. */
struct line_job {
	unsigned slot;
	char id[JOB_ID_MAX + 1];
};
size_t line_jobs(struct line *l, unsigned *from, struct line_job *out, size_t max);
void line_cancel(struct line *l, const struct line_job *job); /* where it is still here: its call is aborted */
void line_adopt(struct line *l, unsigned slot);		      /* a free slot was seen full: claim it next */
size_t line_free_slots(struct line *l, unsigned *out, size_t max, size_t from); /* a snapshot, from the from-th on */

#endif
