/* SPDX-License-Identifier: MIT
 *
 * A line's inside, shared by its three files and by nobody else: line.c (what other threads call, slots and tasks), line_turn.c (the
 * exchange of a turn) and line_io.c (the I/O thread: connections, the wait, the loop).
 *
 * Tasks are in exactly one of free, stock, a pool thread, done, held, or sent. Functions below belong to the I/O thread, unless they say more. */
#ifndef ADWUMA_WORKER_LINE_PARTS_H
#define ADWUMA_WORKER_LINE_PARTS_H

#include <pthread.h>

#include "worker/line.h"

#define RETRY_MS 1000 /* what Redis refused is tried again after this */

enum wait_state { WAIT_NONE, WAIT_PENDING, WAIT_UNBLOCKING };

struct line {
	struct context *ctx;
	struct stock *stock;
	struct line_listener listener;
	size_t index;
	const struct queue_settings *queue;
	struct keys keys;
	unsigned nslots;
	pthread_t thread;
	bool started, clean;
	int wake_fd;
	_Atomic bool leaving, ended;
	_Atomic int64_t turned_ms; /* mono */
	_Atomic bool moved;	   /* home is another since the I/O thread last looked */
	_Atomic int64_t ahead_ms;  /* by how much its Redis's clock is ahead of ours, as of the last tick */

	pthread_mutex_t lock; /* guards until the next blank line */
	struct task *done_head, *done_tail;
	size_t ndone;
	int64_t first_done_us; /* when the oldest of done came */
	bool sleeping;
	size_t wake_at; /* this many done tasks wake the sleeping thread */
	unsigned generation;
	unsigned lease; /* grows when a lease ran out: what was claimed before must not be begun any more */
	bool listed;
	int64_t lease_until_ms; /* boot clock */
	unsigned *free;		/* stack of free slots */
	size_t nfree;
	size_t nbusy, nold; /* claimed and unsettled; of these, under former ids */
	size_t adopt;	    /* so many on top of free are to be claimed whatever the demand */
	bool paused;
	unsigned wait_slot;		 /* nslots: none; where the job will be, should one come */
	bool wait_suspect;		 /* the slot of the wait was seen full: end the wait, and look */
	char home[REDIS_RUN_ID_MAX + 1]; /* of the Redis at which was arrived last */

	/* The I/O thread's own. */
	struct redis *a, *b;
	bool a_lost, b_lost; /* told to health */
	struct tries {
		unsigned n; /* to connect, since Redis last did what we asked over it */
		int64_t next_ms;
	} a_tries, b_tries; /* all zero: the next loss needs no pause */
	int64_t b_client;   /* CLIENT ID of b */
	enum wait_state wait;
	unsigned wait_generation, wait_lease; /* under which it was begun */
	int64_t wait_until_ms;
	bool empty;		  /* ready had nothing left at the last look */
	int64_t refused_until_ms; /* no claims until then */
	bool refused;		  /* Redis is full: told */
	int64_t rest_until_ms;	  /* no turn and no wait until then */
	bool resting;		  /* Redis refused a command: told */
	struct task *held;	  /* settlements that met a key of the wrong type */
	unsigned nheld;
	int64_t held_until_ms;
	bool held_told, reply_told; /* that some are, and that some went without their reply list */
	struct task *sent[TURN_SETTLE_MAX];
	size_t nsent;
	bool repeated; /* sent was sent before, and no reply came */
	unsigned claim[TURN_CLAIM_MAX];
	size_t nclaim;
	struct redis_args turn;
	struct settlement settle[TURN_SETTLE_MAX];
	char old_worker[TURN_SETTLE_MAX][WORKER_ID_MAX + 1];
	double jobs_per_ms;
	int64_t last_turn_us;
	struct task tasks[]; /* task n is slot n */
};

/* --- line.c --- */

void line_push_done(struct line *l, struct task *t);	     /* under the lock */
void line_hand_back(struct line *l, struct task *t);	     /* any thread: to ready, by the next turn */
void line_hand_back_all(struct line *l, struct task *first); /* likewise */
void line_free_slot(struct line *l, unsigned slot);
/* Nobody can say what became of it: look into it with the next claim. */
void line_free_slot_unsure(struct line *l, unsigned slot);
/* A payload that was read into a slot becomes a task; takes the reply's string. generation, lease: under which it was asked for, because a lease that
 * ran out between request and answer is not the one under which the job may begin. */
struct task *line_begin_task(struct line *l, unsigned slot, unsigned generation, unsigned lease, struct reply *payload);
void line_finish_task(struct line *l, struct task *t);

/* --- line_turn.c --- */

/* One trip: settles what is done, claims up to want. On failure the turn is kept for the next. */
void line_take_turn(struct line *l, bool claim, size_t want);
/* Gives claimed tasks to the threads, but for duplicates. waited: they came through the wait. any_cancelled: some id of the queue is. */
void line_hand_out(struct line *l, struct task *first, bool waited, bool any_cancelled);

/* --- line_io.c --- */

void line_lose_a(struct line *l, const struct error *err);
/* An error reply is no broken connection: it is told once, all rests for RETRY_MS, and is then tried again. */
void line_rest(struct line *l, const struct error *err);
/* Redis does what we ask. */
void line_well(struct line *l);
void *line_main(void *line);

#endif
