/* SPDX-License-Identifier: MIT
 *
 * The stock: claimed jobs that wait in the process for a free thread, and the choice which queue is served next.
 *
 * A waiting job is out of other hosts' reach, so the stock is sized by time, not by count: what the queue's threads use up in STOCK_MS at the
 * measured rate. With slow calls that is nothing: a job is then claimed only when a thread is free for it. With all threads wanted, queues
 * hold them in proportion to their weights; a free thread takes from any queue.
 *
 * Locks: one mutex guards everything; never held across I/O. Pool threads call take and finished; each line calls the rest for its own
 * queue. */
#ifndef ADWUMA_WORKER_STOCK_H
#define ADWUMA_WORKER_STOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "settings/settings.h"
#include "worker/task.h"

#define STOCK_MS 20	     /* well under what another idle host would need to notice */
#define STOCK_MAX 128	     /* larger claims bring nothing (measured) */
#define STOCK_PATIENCE_MS 50 /* a job that would wait longer for a thread goes back to ready */

struct stock;

/* wake(line) is called without the lock when a queue may have become able to claim. Returns owned. */
struct stock *stock_new(const struct settings *s, void (*wake)(void *waker, size_t queue), void *waker,
			struct error *err);
void stock_free(struct stock *s);

/* Pool threads. Blocks until there is a task; NULL once stock_close was called. */
struct task *stock_take(struct stock *s);
/* The task's call is over (before it is given to the line). */
void stock_finished(struct stock *s, size_t queue, const struct task *t);

/* How many jobs the queue may claim now; *threads_free: how many of them would start at once. */
size_t stock_demand(struct stock *s, size_t queue, size_t *threads_free);
/* Whether ready is known to hold more, as far as the last claim showed. */
void stock_backlog(struct stock *s, size_t queue, bool more);
void stock_put(struct stock *s, size_t queue, struct task *tasks, size_t n); /* a list by next; takes them */
/* A task is about to be put, in the time that waking a thread takes: one is woken already. Where none comes it only parks again. */
void stock_expect(struct stock *s);
/* Whether one more job of the queue would wait too long for a thread: another host may be idle. */
bool stock_crowded(struct stock *s, size_t queue);
/* Takes all waiting tasks of the queue out, as a list by next. */
struct task *stock_empty(struct stock *s, size_t queue);
void stock_close(struct stock *s); /* wakes all threads; stock_take returns NULL from now on */
void stock_counts(struct stock *s, size_t queue, size_t *waiting, size_t *running);

#endif
