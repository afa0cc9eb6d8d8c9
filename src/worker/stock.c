/* SPDX-License-Identifier: MIT
 *
 * See stock.h. Threads without work are parked on a stack, each with its own condition: the last parked, whose caches are warm, is
 * woken first, and a put wakes no more threads than it brings tasks, nor any for whom one is on its way that was woken ahead. */
#include "worker/stock.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/clock.h"

#define EWMA_SHARE 16 /* a new measurement counts for a sixteenth */

struct share {
	int64_t weight;
	size_t limit; /* max_concurrency, or all threads */
	size_t running;
	size_t waiting;
	struct task *head, *tail;
	bool backlog;	 /* ready may hold more than we took */
	int64_t call_us; /* moving average of a call; 0: none measured yet */
};

struct parked {
	pthread_cond_t woken;
	bool chosen;
	struct parked *below;
};

struct stock {
	pthread_mutex_t lock; /* guards all below */
	size_t threads, running, waiting;
	struct parked *parked;
	size_t woken; /* parked no more, but not come for a task yet */
	bool closed;
	void (*wake)(void *waker, size_t queue);
	void *waker;
	size_t nqueues;
	struct share queue[];
};

struct stock *stock_new(const struct settings *s, void (*wake)(void *waker, size_t queue), void *waker,
			struct error *err)
{
	struct stock *st = calloc(1, sizeof *st + s->nqueues * sizeof *st->queue);

	if (!st) {
		error_set(err, ERR_MEMORY, "out of memory");
		return NULL;
	}
	pthread_mutex_init(&st->lock, NULL);
	st->threads = (size_t)s->threads;
	st->wake = wake;
	st->waker = waker;
	st->nqueues = s->nqueues;
	for (size_t i = 0; i < s->nqueues; i++) {
		size_t limit = (size_t)s->queues[i].max_concurrency;

		st->queue[i].weight = s->queues[i].weight;
		st->queue[i].limit = limit > 0 && limit < st->threads ? limit : st->threads;
		st->queue[i].backlog = true; /* until a claim has shown that there is nothing */
	}
	return st;
}

void stock_free(struct stock *s)
{
	if (!s)
		return;
	pthread_mutex_destroy(&s->lock);
	free(s);
}

/* Whether queue a, with extra more threads, holds less of its share than b does. */
static bool needier(const struct share *a, size_t use_a, const struct share *b, size_t use_b)
{
	return (int64_t)(use_a + 1) * b->weight < (int64_t)(use_b + 1) * a->weight;
}

static struct task *pick(struct stock *s)
{
	struct share *best = NULL;
	struct task *t;

	for (size_t i = 0; s->waiting > 0 && i < s->nqueues; i++) {
		struct share *q = &s->queue[i];

		if (q->head && q->running < q->limit && (!best || needier(q, q->running, best, best->running)))
			best = q;
	}
	if (!best)
		return NULL;
	t = best->head;
	best->head = t->next;
	if (!best->head)
		best->tail = NULL;
	best->waiting--;
	best->running++;
	s->waiting--;
	s->running++;
	t->next = NULL;
	return t;
}

struct task *stock_take(struct stock *s)
{
	struct task *t;

	pthread_mutex_lock(&s->lock);
	while (!s->closed && !(t = pick(s))) {
		struct parked me = {.woken = PTHREAD_COND_INITIALIZER, .below = s->parked};

		s->parked = &me;
		while (!me.chosen)
			pthread_cond_wait(&me.woken, &s->lock);
		pthread_cond_destroy(&me.woken);
		s->woken--;
	}
	if (s->closed)
		t = NULL;
	pthread_mutex_unlock(&s->lock);
	if (t)
		t->started_us = clock_mono_us();
	return t;
}

static void unpark(struct stock *s, size_t n)
{
	for (; n > 0 && s->parked; n--) {
		struct parked *p = s->parked;

		s->parked = p->below;
		p->chosen = true;
		s->woken++;
		pthread_cond_signal(&p->woken);
	}
}

static size_t share_use(const struct share *q)
{
	return q->running + q->waiting;
}

/* The queue with a backlog that is entitled to the next free thread; asking counts as having one. */
static size_t neediest(const struct stock *s, const size_t *extra, size_t asking)
{
	size_t best = s->nqueues, best_use = 0;

	for (size_t i = 0; i < s->nqueues; i++) {
		const struct share *q = &s->queue[i];
		size_t use = share_use(q) + (extra ? extra[i] : 0);

		if ((!q->backlog && i != asking) || use >= q->limit)
			continue;
		if (best == s->nqueues || needier(q, use, &s->queue[best], best_use)) {
			best = i;
			best_use = use;
		}
	}
	return best;
}

static size_t free_threads(const struct stock *s)
{
	size_t wanted = s->running + s->waiting;

	return wanted < s->threads ? s->threads - wanted : 0;
}

static bool others_have_backlog(const struct stock *s, size_t queue)
{
	for (size_t i = 0; i < s->nqueues; i++)
		if (i != queue && s->queue[i].backlog)
			return true;
	return false;
}

/* Deals the free threads out one by one, as if every queue with a backlog asked now: what `queue` gets of them. */
static size_t granted(const struct stock *s, size_t queue)
{
	size_t extra[QUEUES_MAX] = {0}, left = free_threads(s);

	if (!others_have_backlog(s, queue)) {
		const struct share *q = &s->queue[queue];
		size_t room = q->limit - (share_use(q) < q->limit ? share_use(q) : q->limit);

		return left < room ? left : room;
	}
	for (; left > 0 && extra[queue] < STOCK_MAX; left--) {
		size_t next = neediest(s, extra, queue);

		if (next == s->nqueues)
			break;
		extra[next]++;
	}
	return extra[queue];
}

/* How long it takes on the average until some thread comes free, in us, as far as calls were measured. */
static int64_t next_free_us(const struct stock *s)
{
	int64_t call_us = 0;

	for (size_t i = 0; i < s->nqueues; i++)
		if (s->queue[i].running > 0 && s->queue[i].call_us > call_us)
			call_us = s->queue[i].call_us;
	return call_us / (int64_t)s->threads;
}

/* How many jobs of the queue may wait here. Where queues compete each needs one in hand, else a thread that comes free finds only the
 * others' jobs and the weights mean nothing; but not where it would wait long. */
static size_t target(const struct stock *s, size_t queue)
{
	const struct share *q = &s->queue[queue];
	int64_t n = q->call_us > 0 ? (int64_t)q->running * STOCK_MS * 1000 / q->call_us : 0;

	if (n == 0 && q->backlog && share_use(q) < q->limit && others_have_backlog(s, queue) &&
	    next_free_us(s) <= STOCK_PATIENCE_MS * 1000)
		n = 1;
	return n < STOCK_MAX ? (size_t)n : STOCK_MAX;
}

size_t stock_demand(struct stock *s, size_t queue, size_t *threads_free)
{
	const struct share *q = &s->queue[queue];
	size_t stock, now;

	pthread_mutex_lock(&s->lock);
	now = s->closed ? 0 : granted(s, queue);
	stock = target(s, queue);
	stock = s->closed || stock <= q->waiting ? 0 : stock - q->waiting;
	pthread_mutex_unlock(&s->lock);
	*threads_free = now;
	return now + stock;
}

void stock_backlog(struct stock *s, size_t queue, bool more)
{
	bool changed;
	size_t other = s->nqueues;

	pthread_mutex_lock(&s->lock);
	changed = s->queue[queue].backlog != more;
	s->queue[queue].backlog = more;
	/* The threads that were kept for this queue are free for the others now. */
	if (changed && !more && free_threads(s) > 0)
		other = neediest(s, NULL, s->nqueues);
	pthread_mutex_unlock(&s->lock);
	if (other != s->nqueues && other != queue)
		s->wake(s->waker, other);
}

void stock_put(struct stock *s, size_t queue, struct task *tasks, size_t n)
{
	struct share *q = &s->queue[queue];
	struct task *last = tasks;

	if (!tasks)
		return;
	while (last->next)
		last = last->next;
	pthread_mutex_lock(&s->lock);
	if (q->tail)
		q->tail->next = tasks;
	else
		q->head = tasks;
	q->tail = last;
	q->waiting += n;
	s->waiting += n;
	if (s->waiting > s->woken)
		unpark(s, n < s->waiting - s->woken ? n : s->waiting - s->woken);
	pthread_mutex_unlock(&s->lock);
}

void stock_expect(struct stock *s)
{
	pthread_mutex_lock(&s->lock);
	if (s->woken == 0)
		unpark(s, 1);
	pthread_mutex_unlock(&s->lock);
}

bool stock_crowded(struct stock *s, size_t queue)
{
	const struct share *q = &s->queue[queue];
	int64_t wait_us;
	bool crowded;

	pthread_mutex_lock(&s->lock);
	wait_us = next_free_us(s) * (int64_t)(s->waiting + 1);
	crowded = (free_threads(s) == 0 && (wait_us == 0 || wait_us > STOCK_PATIENCE_MS * 1000)) ||
		  q->running + q->waiting >= q->limit;
	pthread_mutex_unlock(&s->lock);
	return crowded;
}

void stock_finished(struct stock *s, size_t queue, const struct task *t)
{
	struct share *q = &s->queue[queue];
	int64_t us = clock_mono_us() - t->started_us;
	size_t other = s->nqueues;

	pthread_mutex_lock(&s->lock);
	q->running--;
	s->running--;
	q->call_us = q->call_us > 0 ? q->call_us + (us - q->call_us) / EWMA_SHARE : us;
	if (q->call_us < 1)
		q->call_us = 1;
	/* This thread comes back for more at once; when another queue waits for its share, its line must hear of it. */
	if (s->nqueues > 1 && s->waiting == 0)
		other = neediest(s, NULL, s->nqueues);
	/* Tasks that waited for max_concurrency can start now: this thread takes one itself. */
	pthread_mutex_unlock(&s->lock);
	if (other != s->nqueues && other != queue)
		s->wake(s->waker, other);
}

struct task *stock_empty(struct stock *s, size_t queue)
{
	struct share *q = &s->queue[queue];
	struct task *all;

	pthread_mutex_lock(&s->lock);
	all = q->head;
	s->waiting -= q->waiting;
	q->waiting = 0;
	q->head = q->tail = NULL;
	pthread_mutex_unlock(&s->lock);
	return all;
}

void stock_close(struct stock *s)
{
	pthread_mutex_lock(&s->lock);
	s->closed = true;
	unpark(s, s->threads);
	pthread_mutex_unlock(&s->lock);
}

void stock_counts(struct stock *s, size_t queue, size_t *waiting, size_t *running)
{
	pthread_mutex_lock(&s->lock);
	*waiting = s->queue[queue].waiting;
	*running = s->queue[queue].running;
	pthread_mutex_unlock(&s->lock);
}
