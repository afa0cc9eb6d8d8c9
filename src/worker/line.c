/* SPDX-License-Identifier: MIT
 *
 * See line.h and line_parts.h. Here: a line's life, what other threads tell it, its slots and tasks. */
#include "worker/line.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "http/http.h"
#include "pool/pool.h"
#include "worker/line_parts.h"

#define PARSE_ON_IO_BYTES                                                                                              \
	65536 /* larger payloads are parsed by the pool thread, so that one giant does not stop the queue */

struct line *line_new(struct context *ctx, struct stock *stock, size_t queue, struct line_listener listener,
		      struct error *err)
{
	const struct queue_settings *q = &ctx->settings->queues[queue];
	int64_t threads = ctx->settings->threads;
	/* Room for every thread, the largest stock, and one for the wait. */
	unsigned nslots =
		(unsigned)(q->max_concurrency > 0 && q->max_concurrency < threads ? q->max_concurrency : threads) +
		STOCK_MAX + 1;
	struct line *l = calloc(1, sizeof *l + nslots * sizeof *l->tasks);

	if (!l) {
		error_set(err, ERR_MEMORY, "out of memory");
		return NULL;
	}
	pthread_mutex_init(&l->lock, NULL);
	l->ctx = ctx;
	l->stock = stock;
	l->listener = listener;
	l->index = queue;
	l->queue = q;
	l->nslots = l->wait_slot = nslots;
	l->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	l->free = malloc(nslots * sizeof *l->free);
	keys_init(&l->keys, ctx->settings->key_prefix, q->name);
	if (!l->free || l->wake_fd < 0) {
		error_set(err, ERR_SYSTEM, "queue %s: %s", q->name, strerror(errno));
		line_free(l);
		return NULL;
	}
	/* The lowest numbers on top: a small load touches little memory. */
	while (l->nfree < nslots) {
		l->free[l->nfree] = nslots - 1 - (unsigned)l->nfree;
		l->nfree++;
	}
	return l;
}

static void task_release(struct task *t)
{
	job_release(&t->job);
	fault_release(&t->fault);
	buf_release(&t->body);
	buf_release(&t->dead);
	free(t->payload);
}

void line_free(struct line *l)
{
	if (!l)
		return;
	for (unsigned i = 0; i < l->nslots; i++)
		task_release(&l->tasks[i]);
	if (l->wake_fd >= 0)
		close(l->wake_fd);
	redis_close(l->a);
	redis_close(l->b);
	redis_args_release(&l->turn);
	free(l->free);
	pthread_mutex_destroy(&l->lock);
	free(l);
}

const char *line_queue(const struct line *l)
{
	return l->queue->name;
}

const struct settings *line_settings(const struct line *l)
{
	return l->ctx->settings;
}

const struct queue_settings *line_queue_settings(const struct line *l)
{
	return l->queue;
}

const struct keys *line_keys(const struct line *l)
{
	return &l->keys;
}

size_t line_index(const struct line *l)
{
	return l->index;
}

unsigned line_slots(const struct line *l)
{
	return l->nslots;
}

void line_worker_id(const struct line *l, unsigned generation, char out[WORKER_ID_MAX + 1])
{
	/* Once for every job: by hand, because a format costs as much as the job's keys together. */
	char digits[12];
	size_t i = sizeof digits, n = strlen(l->ctx->base_id);

	digits[--i] = '\0';
	do
		digits[--i] = (char)('0' + generation % 10);
	while ((generation /= 10) > 0);
	digits[--i] = '.';
	memcpy(out, l->ctx->base_id, n);
	memcpy(out + n, digits + i, sizeof digits - i);
}

unsigned line_generation(struct line *l)
{
	unsigned generation;

	pthread_mutex_lock(&l->lock);
	generation = l->generation;
	pthread_mutex_unlock(&l->lock);
	return generation;
}

int64_t line_now_ms(const struct line *l)
{
	return clock_real_ms() + l->ahead_ms;
}

void line_set_ahead(struct line *l, int64_t ahead_ms)
{
	l->ahead_ms = ahead_ms;
}

unsigned line_busy(struct line *l)
{
	size_t n;

	pthread_mutex_lock(&l->lock);
	n = l->nbusy;
	pthread_mutex_unlock(&l->lock);
	return (unsigned)n;
}

int line_start(struct line *l, struct error *err)
{
	char name[16];

	snprintf(name, sizeof name, "io/%.12s", l->queue->name);
	if (pool_thread(&l->thread, name, line_main, l, err))
		return -1;
	l->started = true;
	return 0;
}

bool line_join(struct line *l)
{
	if (l->started)
		pthread_join(l->thread, NULL);
	l->started = false;
	return l->clean;
}

/* --- What other threads tell the line. ---------------------------------------------------------------------------------- */

static void ring(struct line *l)
{
	uint64_t one = 1;
	ssize_t n = write(l->wake_fd, &one, sizeof one);

	(void)n; /* a full counter has woken it already */
}

void line_wake(struct line *l)
{
	ring(l);
}

int64_t line_turned_ms(const struct line *l)
{
	return l->turned_ms;
}

bool line_leaving(const struct line *l)
{
	return l->leaving;
}

bool line_ended(const struct line *l)
{
	return l->ended;
}

/* Under the lock. */
void line_push_done(struct line *l, struct task *t)
{
	t->next = NULL;
	t->calling = NULL;
	if (l->done_tail)
		l->done_tail->next = t;
	else {
		l->done_head = t;
		l->first_done_us = clock_mono_us();
	}
	l->done_tail = t;
	l->ndone++;
}

void line_done(struct line *l, struct task *t)
{
	bool wake;

	pthread_mutex_lock(&l->lock);
	line_push_done(l, t);
	wake = l->sleeping && l->ndone >= l->wake_at;
	if (wake)
		l->sleeping = false;
	pthread_mutex_unlock(&l->lock);
	if (wake)
		ring(l);
}

bool line_begin_call(struct line *l, struct task *t, struct http *http)
{
	bool holds;

	pthread_mutex_lock(&l->lock);
	holds = t->generation == l->generation && t->lease == l->lease && clock_boot_ms() < l->lease_until_ms;
	if (holds) {
		t->calling = http;
		http_unabort(http);
	}
	pthread_mutex_unlock(&l->lock);
	return holds;
}

size_t line_jobs(struct line *l, unsigned *from, struct line_job *out, size_t max)
{
	size_t n = 0;

	pthread_mutex_lock(&l->lock);
	for (; n < max && *from < l->nslots; ++*from) {
		const struct task *t = &l->tasks[*from];

		if (!t->busy || !t->parsed || t->cancelled || !*t->job.id)
			continue;
		out[n].slot = *from;
		memcpy(out[n++].id, t->job.id, sizeof t->job.id);
	}
	pthread_mutex_unlock(&l->lock);
	return n;
}

void line_cancel(struct line *l, const struct line_job *job)
{
	struct task *t = &l->tasks[job->slot];

	pthread_mutex_lock(&l->lock);
	if (t->busy && t->parsed && strcmp(t->job.id, job->id) == 0) {
		t->cancelled = true;
		if (t->calling)
			http_abort(t->calling);
	}
	pthread_mutex_unlock(&l->lock);
}

void line_renewed(struct line *l, int64_t lease_until_boot_ms)
{
	bool first;

	pthread_mutex_lock(&l->lock);
	first = !l->listed;
	l->listed = true;
	l->lease_until_ms = lease_until_boot_ms;
	pthread_mutex_unlock(&l->lock);
	if (first)
		ring(l);
}

void line_hand_back(struct line *l, struct task *t)
{
	t->how = SETTLE_BACK;
	t->outcome = "";
	t->has_dead = t->audio = false;
	pthread_mutex_lock(&l->lock);
	line_push_done(l, t);
	pthread_mutex_unlock(&l->lock);
}

void line_hand_back_all(struct line *l, struct task *t)
{
	while (t) {
		struct task *next = t->next;

		line_hand_back(l, t);
		t = next;
	}
}

bool line_lease_out(struct line *l)
{
	bool out;

	pthread_mutex_lock(&l->lock);
	out = l->listed && clock_boot_ms() >= l->lease_until_ms;
	pthread_mutex_unlock(&l->lock);
	return out;
}

void line_lease_lost(struct line *l)
{
	pthread_mutex_lock(&l->lock);
	l->generation++;
	l->lease++;
	l->listed = false;
	l->lease_until_ms = 0;
	l->nold = l->nbusy;
	pthread_mutex_unlock(&l->lock);
	/* What has not begun may be running elsewhere by now: it is offered back, and nothing happens where its slot is empty. */
	line_hand_back_all(l, stock_empty(l->stock, l->index));
	ring(l);
}

void line_lease_lapsed(struct line *l)
{
	pthread_mutex_lock(&l->lock);
	l->lease++;
	pthread_mutex_unlock(&l->lock);
	line_hand_back_all(l, stock_empty(l->stock, l->index));
	ring(l);
}

bool line_owns(struct line *l, const char *worker)
{
	size_t base = strlen(l->ctx->base_id);
	bool ours = strncmp(worker, l->ctx->base_id, base) == 0 && worker[base] == '.';

	if (ours) {
		pthread_mutex_lock(&l->lock);
		ours = l->nold > 0;
		pthread_mutex_unlock(&l->lock);
	}
	return ours;
}

void line_pause(struct line *l, bool paused)
{
	bool changed;

	pthread_mutex_lock(&l->lock);
	changed = l->paused != paused;
	l->paused = paused;
	pthread_mutex_unlock(&l->lock);
	if (!changed)
		return;
	log_event(LOG_INFO, paused ? "queue paused" : "queue resumed", "queue", l->queue->name, NULL);
	if (paused) /* what waits here must not begin any more */
		line_hand_back_all(l, stock_empty(l->stock, l->index));
	ring(l);
}

/* Under the lock: slot i of the free stack goes on top. */
static void free_to_top(struct line *l, size_t i)
{
	unsigned slot = l->free[i];

	memmove(l->free + i, l->free + i + 1, (l->nfree - i - 1) * sizeof *l->free);
	l->free[l->nfree - 1] = slot;
}

void line_adopt(struct line *l, unsigned slot)
{
	bool found = false;

	pthread_mutex_lock(&l->lock);
	if (slot == l->wait_slot)
		found = l->wait_suspect = true;
	for (size_t i = 0; i < l->nfree && !found; i++) {
		if (l->free[i] != slot)
			continue;
		free_to_top(l, i);
		l->adopt++;
		found = true;
	}
	pthread_mutex_unlock(&l->lock);
	if (found)
		ring(l);
}

size_t line_free_slots(struct line *l, unsigned *out, size_t max, size_t from)
{
	size_t n = 0;

	pthread_mutex_lock(&l->lock);
	for (size_t i = from; i < l->nfree && n < max; i++)
		out[n++] = l->free[i];
	/* A late wait may have filled it before the one that runs. */
	if (n < max && from <= l->nfree && l->wait_slot < l->nslots)
		out[n++] = l->wait_slot;
	pthread_mutex_unlock(&l->lock);
	return n;
}

void line_arrived(struct line *l, const struct redis *r)
{
	bool moved;

	pthread_mutex_lock(&l->lock);
	moved = strcmp(l->home, redis_run_id(r)) != 0;
	snprintf(l->home, sizeof l->home, "%s", redis_run_id(r));
	pthread_mutex_unlock(&l->lock);
	if (!moved)
		return;
	l->moved = true;
	ring(l);
}

bool line_is_at(struct line *l, const struct redis *r)
{
	bool is;

	pthread_mutex_lock(&l->lock);
	is = strcmp(l->home, redis_run_id(r)) == 0;
	pthread_mutex_unlock(&l->lock);
	return is;
}

/* --- Slots and tasks. --------------------------------------------------------------------------------------------------- */

void line_free_slot(struct line *l, unsigned slot)
{
	pthread_mutex_lock(&l->lock);
	l->free[l->nfree++] = slot;
	pthread_mutex_unlock(&l->lock);
}

/* The slot's answer has come, or nobody can say what became of it: look into it with the next claim. */
void line_free_slot_unsure(struct line *l, unsigned slot)
{
	pthread_mutex_lock(&l->lock);
	l->free[l->nfree++] = slot;
	l->adopt++;
	pthread_mutex_unlock(&l->lock);
}

void line_finish_task(struct line *l, struct task *t)
{
	pthread_mutex_lock(&l->lock);
	t->busy = t->parsed = false;
	pthread_mutex_unlock(&l->lock);
	job_release(&t->job);
	fault_release(&t->fault);
	buf_trim(&t->body, TASK_KEEP_BYTES);
	buf_trim(&t->dead, 0);
	free(t->payload);
	t->payload = NULL;
	t->bad = false;
	pthread_mutex_lock(&l->lock);
	l->nbusy--;
	if (t->generation != l->generation && l->nold > 0)
		l->nold--;
	l->free[l->nfree++] = t->slot;
	pthread_mutex_unlock(&l->lock);
}

static void parse(struct task *t)
{
	const struct settings *s = t->line->ctx->settings;

	fault_init(&t->fault);
	t->bad = job_parse(&t->job, t->payload, t->payload_len, t->line->queue->name, (size_t)s->max_job_bytes,
			   &t->fault) != 0;
}

void task_parse(struct task *t)
{
	if (t->parsed)
		return;
	parse(t);
	pthread_mutex_lock(&t->line->lock);
	t->parsed = true;
	pthread_mutex_unlock(&t->line->lock);
}

/* A payload that was read into a slot becomes a task; takes the reply's string. */
struct task *line_begin_task(struct line *l, unsigned slot, unsigned generation, unsigned lease, struct reply *payload)
{
	struct task *t = &l->tasks[slot];
	bool now;

	t->line = l;
	t->slot = slot;
	t->generation = generation;
	t->lease = lease;
	t->next = NULL;
	t->payload = reply_steal(payload, &t->payload_len);
	t->audio = t->has_dead = t->forget_pieces = t->streams = false;
	t->billed = (struct units){0};
	t->number = 0;
	t->cancelled = false;
	now = t->payload_len <= PARSE_ON_IO_BYTES;
	if (now)
		parse(t);
	pthread_mutex_lock(&l->lock);
	t->busy = true;
	t->parsed = now;
	l->nbusy++;
	if (generation != l->generation)
		l->nold++;
	pthread_mutex_unlock(&l->lock);
	return t;
}
