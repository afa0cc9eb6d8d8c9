/* SPDX-License-Identifier: MIT
 *
 * See line.h. The I/O thread's life is line_main(): connect, exchange a turn, or wait; every step returns to the loop on failure, and nothing
 * is ever dropped: tasks are in exactly one of free, stock, a pool thread, done, held, or sent. */
#include "worker/line.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "pool/pool.h"
#include "worker/fault_point.h"
#include "worker/reap.h"

#define FAST_JOBS_PER_MS 4
#define BATCH_JOBS 32
#define GATHER_US 1000
#define WAIT_MAX_MS 5000 /* for one BLMOVE: a silent peer is noticed soon after */
#define WAIT_MARGIN_MS 2000
#define IDLE_POLL_MS 1000
#define REFUSED_PAUSE_MS 1000 /* Redis is full: how long no claims are tried */
#define HELD_MS 1000	      /* a settlement that met a key of the wrong type is tried again after this */
#define PARSE_ON_IO_BYTES                                                                                              \
	65536 /* larger payloads are parsed by the pool thread, so that one giant does not stop the queue */

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
	_Atomic bool give_up, ended;

	pthread_mutex_t lock; /* guards until the next blank line */
	struct task *done_head, *done_tail;
	size_t ndone;
	int64_t first_done_us; /* when the oldest of done came */
	bool sleeping;
	size_t wake_at; /* this many done tasks wake the sleeping thread */
	unsigned generation;
	bool listed;
	int64_t lease_until_ms; /* boot clock */
	unsigned *free;		/* stack of free slots */
	size_t nfree;
	size_t nbusy, nold; /* claimed and unsettled; of these, under former ids */
	size_t adopt;	    /* so many on top of free are to be claimed whatever the demand */
	bool paused;

	/* The I/O thread's own. */
	struct redis *a, *b;
	bool a_lost, b_lost; /* told to health */
	unsigned tries;	     /* to reconnect */
	int64_t b_client;    /* CLIENT ID of b */
	enum wait_state wait;
	unsigned wait_slot;
	int64_t wait_until_ms;
	bool empty; /* ready had nothing left at the last look */
	int64_t refused_until_ms;
	bool refused;
	struct task *held; /* settlements that met a key of the wrong type */
	int64_t held_until_ms;
	struct task *sent[TURN_SETTLE_MAX];
	size_t nsent;
	bool repeated; /* sent was sent before, and no reply came */
	unsigned claim[TURN_CLAIM_MAX];
	size_t nclaim;
	struct turn turn;
	struct settlement settle[TURN_SETTLE_MAX];
	char old_worker[TURN_SETTLE_MAX][WORKER_ID_MAX + 1];
	double jobs_per_ms;
	int64_t last_turn_us;
	struct task tasks[]; /* task n is slot n */
};

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
	l->nslots = nslots;
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
	turn_release(&l->turn);
	free(l->free);
	pthread_mutex_destroy(&l->lock);
	free(l);
}

const char *line_queue(const struct line *l)
{
	return l->queue->name;
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
	snprintf(out, WORKER_ID_MAX + 1, "%s.%u", l->ctx->base_id, generation);
}

unsigned line_generation(struct line *l)
{
	unsigned generation;

	pthread_mutex_lock(&l->lock);
	generation = l->generation;
	pthread_mutex_unlock(&l->lock);
	return generation;
}

unsigned line_busy(struct line *l)
{
	size_t n;

	pthread_mutex_lock(&l->lock);
	n = l->nbusy;
	pthread_mutex_unlock(&l->lock);
	return (unsigned)n;
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

void line_give_up(struct line *l)
{
	l->give_up = true;
	ring(l);
}

bool line_ended(const struct line *l)
{
	return l->ended;
}

/* Under the lock. */
static void push_done(struct line *l, struct task *t)
{
	t->next = NULL;
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
	push_done(l, t);
	wake = l->sleeping && l->ndone >= l->wake_at;
	if (wake)
		l->sleeping = false;
	pthread_mutex_unlock(&l->lock);
	if (wake)
		ring(l);
}

bool line_holds(struct line *l, const struct task *t)
{
	bool holds;

	pthread_mutex_lock(&l->lock);
	holds = t->generation == l->generation && clock_boot_ms() < l->lease_until_ms;
	pthread_mutex_unlock(&l->lock);
	return holds;
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

static void hand_back(struct line *l, struct task *t)
{
	t->how = SETTLE_BACK;
	t->outcome = "";
	t->has_dead = t->audio = false;
	pthread_mutex_lock(&l->lock);
	push_done(l, t);
	pthread_mutex_unlock(&l->lock);
}

static void hand_back_all(struct line *l, struct task *t)
{
	while (t) {
		struct task *next = t->next;

		hand_back(l, t);
		t = next;
	}
}

void line_lease_lost(struct line *l)
{
	pthread_mutex_lock(&l->lock);
	l->generation++;
	l->listed = false;
	l->lease_until_ms = 0;
	l->nold = l->nbusy;
	pthread_mutex_unlock(&l->lock);
	/* What has not begun may be running elsewhere by now: it is offered back, and nothing happens where its slot is empty. */
	hand_back_all(l, stock_empty(l->stock, l->index));
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
	pthread_mutex_unlock(&l->lock);
	return n;
}

/* --- Slots and tasks. --------------------------------------------------------------------------------------------------- */

static void free_slot(struct line *l, unsigned slot)
{
	pthread_mutex_lock(&l->lock);
	l->free[l->nfree++] = slot;
	pthread_mutex_unlock(&l->lock);
}

/* The slot's answer has come, or nobody can say what became of it: look into it with the next claim. */
static void free_slot_unsure(struct line *l, unsigned slot)
{
	pthread_mutex_lock(&l->lock);
	l->free[l->nfree++] = slot;
	l->adopt++;
	pthread_mutex_unlock(&l->lock);
}

static void task_finish(struct line *l, struct task *t)
{
	job_release(&t->job);
	fault_release(&t->fault);
	buf_trim(&t->body, TASK_KEEP_BYTES);
	buf_trim(&t->dead, 0);
	free(t->payload);
	t->payload = NULL;
	t->busy = t->parsed = t->bad = false;
	pthread_mutex_lock(&l->lock);
	l->nbusy--;
	if (t->generation != l->generation && l->nold > 0)
		l->nold--;
	l->free[l->nfree++] = t->slot;
	pthread_mutex_unlock(&l->lock);
}

void task_parse(struct task *t)
{
	const struct settings *s = t->line->ctx->settings;

	if (t->parsed)
		return;
	fault_init(&t->fault);
	t->bad = job_parse(&t->job, t->payload, t->payload_len, t->line->queue->name, (size_t)s->max_job_bytes,
			   &t->fault) != 0;
	t->parsed = true;
}

/* A payload that was read into a slot becomes a task; takes the reply's string. */
static struct task *task_begin(struct line *l, unsigned slot, unsigned generation, struct reply *payload)
{
	struct task *t = &l->tasks[slot];

	t->line = l;
	t->slot = slot;
	t->generation = generation;
	t->next = NULL;
	t->busy = true;
	t->payload = reply_steal(payload, &t->payload_len);
	t->audio = t->has_dead = false;
	t->number = 0;
	if (t->payload_len <= PARSE_ON_IO_BYTES)
		task_parse(t);
	pthread_mutex_lock(&l->lock);
	l->nbusy++;
	if (generation != l->generation)
		l->nold++;
	pthread_mutex_unlock(&l->lock);
	return t;
}

/* --- Connections. ------------------------------------------------------------------------------------------------------- */

static void show_address(const struct line *l, char out[256])
{
	redis_address_show(&l->ctx->address, out, 256);
}

static void lose(struct line *l, struct redis **link, bool *lost, const char *reason)
{
	int64_t opened_ms = *link ? redis_opened_ms(*link) : INT64_MAX;
	char where[256];

	redis_close(*link);
	*link = NULL;
	show_address(l, where);
	if (*lost)
		health_still_lost(&l->ctx->health, where, reason);
	else
		health_lost(&l->ctx->health, where, reason, opened_ms);
	*lost = true;
}

static void lose_a(struct line *l, const struct error *err)
{
	lose(l, &l->a, &l->a_lost, err->msg);
	l->repeated = l->nsent > 0;
	while (l->nclaim > 0)
		free_slot_unsure(l, l->claim[--l->nclaim]);
}

static void lose_b(struct line *l, const struct error *err)
{
	lose(l, &l->b, &l->b_lost, err->msg);
	if (l->wait != WAIT_NONE)
		free_slot_unsure(l, l->wait_slot);
	l->wait = WAIT_NONE;
	l->empty = false;
}

static void found(struct line *l, bool *lost)
{
	char where[256];

	if (!*lost)
		return;
	*lost = false;
	show_address(l, where);
	health_back(&l->ctx->health, where);
}

static int open_b(struct line *l, struct error *err)
{
	struct reply *reply = NULL;

	l->b = redis_open(&l->ctx->address, false, err);
	if (!l->b || redis_call(l->b, &reply, err, "CLIENT ID"))
		return -1;
	l->b_client = reply_int(reply, 0);
	reply_free(reply);
	return 0;
}

static int connect_both(struct line *l)
{
	struct error err = {0};

	if (!l->a) {
		l->a = redis_open(&l->ctx->address, true, &err);
		if (!l->a) {
			lose_a(l, &err);
			return -1;
		}
		found(l, &l->a_lost);
		l->empty = false;
	}
	if (!l->b) {
		if (open_b(l, &err)) {
			lose_b(l, &err);
			return -1;
		}
		found(l, &l->b_lost);
	}
	l->tries = 0;
	return 0;
}

/* --- A turn. ------------------------------------------------------------------------------------------------------------ */

/* Moves done tasks into sent, up to the bounds of one trip. */
static void choose_settlements(struct line *l)
{
	size_t bytes = 0;

	pthread_mutex_lock(&l->lock);
	while (l->nsent < TURN_SETTLE_MAX && l->done_head && bytes < TURN_BYTES_MAX) {
		struct task *t = l->done_head;

		bytes += t->body.len + t->dead.len;
		l->done_head = t->next;
		if (!l->done_head)
			l->done_tail = NULL;
		l->ndone--;
		l->sent[l->nsent++] = t;
	}
	l->first_done_us = clock_mono_us();
	pthread_mutex_unlock(&l->lock);
}

/* Takes up to want free slots into claim; a slot under suspicion comes first. */
static void choose_slots(struct line *l, size_t want)
{
	pthread_mutex_lock(&l->lock);
	if (want < l->adopt)
		want = l->adopt;
	while (l->nclaim < want && l->nclaim < TURN_CLAIM_MAX && l->nfree > 0) {
		l->claim[l->nclaim++] = l->free[--l->nfree];
		if (l->adopt > 0)
			l->adopt--;
	}
	pthread_mutex_unlock(&l->lock);
}

static void describe(struct line *l, size_t i, const char *worker, unsigned generation)
{
	struct task *t = l->sent[i];
	int64_t ttl_ms = 1000 * job_number(&t->job, JOB_RESULT_TTL_S, l->ctx->settings->result_ttl_s);

	if (t->generation != generation) {
		line_worker_id(l, t->generation, l->old_worker[i]);
		worker = l->old_worker[i];
	}
	l->settle[i] = (struct settlement){
		.how = t->how,
		.worker = worker,
		.slot = t->slot,
		.payload = t->payload,
		.payload_len = t->payload_len,
		.outcome = t->outcome,
		.id = t->job.id,
		.reply = t->job.reply,
		.audio = t->audio,
		.body = t->body.ptr,
		.body_len = t->body.len,
		.number = t->how == SETTLE_RESULT ? ttl_ms : t->number,
		.dead = t->has_dead ? t->dead.ptr : NULL,
		.dead_len = t->dead.len,
	};
	if (t->how == SETTLE_UNTIL) { /* the payload itself, as it is */
		l->settle[i].body = t->payload;
		l->settle[i].body_len = t->payload_len;
	}
}

static void hold(struct line *l, struct task *t)
{
	if (!l->held)
		log_event(LOG_ERROR, "a key has a wrong type", "queue", l->queue->name, "job", t->job.id, "then",
			  "its result is kept and tried again; delete the key that is in the way", NULL);
	t->next = l->held;
	l->held = t;
	l->held_until_ms = clock_mono_ms() + HELD_MS;
}

static void after_settled(struct line *l, struct task *t, enum settled letter)
{
	switch (letter) {
	case SETTLED_WRONG_TYPE:
		hold(l, t);
		return;
	case SETTLED_STAGE_GONE: /* Redis forgot the staged audio (rolled back): only doing the job again brings it back */
		log_event(LOG_WARN, "staged audio is gone", "queue", l->queue->name, "job", t->job.id, "then",
			  "the job is done again", NULL);
		hand_back(l, t);
		return;
	case SETTLED_NOT_DUPLICATE:
		stock_put(l->stock, l->index, t, 1);
		return;
	case SETTLED_FENCED:
	case SETTLED_DUPLICATE:
		if (t->how == SETTLE_RESULT || t->how == SETTLE_DUPLICATE)
			log_event(LOG_INFO,
				  letter == SETTLED_FENCED ? "result refused: the slot was taken away"
							   : "id has a result already",
				  "queue", l->queue->name, "job", t->job.id, NULL);
		break;
	case SETTLED_DONE:
		if (t->how == SETTLE_LATER)
			l->listener.due(l->listener.keeper, t->number);
		else if (t->how == SETTLE_UNTIL)
			l->listener.due(l->listener.keeper, t->number - clock_real_ms());
		break;
	}
	task_finish(l, t);
}

/* Of freshly claimed tasks, those whose id has a result already are not called: one EXISTS for all, and single looks only where it hits. */
static int find_duplicates(struct line *l, struct task *first, struct error *err)
{
	struct redis_args args = {0};
	struct reply *reply = NULL;
	struct buf names = BUF_INIT(TURN_CLAIM_MAX * KEY_MAX);
	int rc = buf_reserve(&names, TURN_CLAIM_MAX * KEY_MAX - 1) ? 0 : error_set(err, ERR_MEMORY, "out of memory");
	size_t n = 0;

	redis_arg_str(&args, "EXISTS");
	for (struct task *t = first; t && rc == 0; t = t->next) {
		if (!t->parsed || !*t->job.id)
			continue;
		redis_arg(&args, names.ptr + names.len, key_result(&l->keys, t->job.id, names.ptr + names.len));
		names.len += args.len[args.n - 1];
		n++;
	}
	if (rc == 0 && n > 0)
		rc = redis_run(l->a, &args, &reply, err);
	if (rc == 0 && n > 0 && reply_int(reply, 0) > 0) {
		for (struct task *t = first; t && rc == 0; t = t->next) {
			char name[KEY_MAX];

			if (!t->parsed || !*t->job.id)
				continue;
			key_result(&l->keys, t->job.id, name);
			reply_free(reply);
			reply = NULL;
			rc = redis_call(l->a, &reply, err, "EXISTS %s", name);
			if (rc == 0 && reply_int(reply, 0) > 0)
				t->how = SETTLE_DUPLICATE;
		}
	}
	reply_free(reply);
	buf_release(&names);
	redis_args_release(&args);
	return rc;
}

/* Gives claimed tasks to the threads, but for duplicates, and but for what other hosts may do sooner. */
static void hand_out(struct line *l, struct task *first)
{
	struct task *keep = NULL, **tail = &keep;
	struct error err = {0};
	size_t n = 0;

	for (struct task *t = first; t; t = t->next)
		t->how = SETTLE_BACK;
	/* A look that fails only costs the look: the commit refuses a second result. */
	if (find_duplicates(l, first, &err))
		lose_a(l, &err);
	while (first) {
		struct task *t = first;

		first = t->next;
		t->next = NULL;
		if (t->how == SETTLE_DUPLICATE) {
			t->outcome = "";
			pthread_mutex_lock(&l->lock);
			push_done(l, t);
			pthread_mutex_unlock(&l->lock);
			continue;
		}
		*tail = t;
		tail = &t->next;
		n++;
	}
	stock_put(l->stock, l->index, keep, n);
}

static void after_claim(struct line *l, const struct turn_answer *answer, struct reply *reply, unsigned generation)
{
	struct task *first = NULL, **tail = &first;
	bool asked = l->nclaim > 0;

	for (size_t i = 0; i < l->nclaim; i++) {
		if (i >= answer->nclaimed) {
			free_slot(l, l->claim[i]);
			continue;
		}
		*tail = task_begin(l, l->claim[i], generation, reply_at(reply, TURN_FIRST_PAYLOAD + i));
		tail = &(*tail)->next;
	}
	l->nclaim = 0;
	if (!asked)
		return;
	l->empty = answer->state == CLAIM_EMPTY;
	stock_backlog(l->stock, l->index, answer->state == CLAIM_FULL || answer->state == CLAIM_BYTES);
	if (answer->state == CLAIM_UNLISTED)
		l->listener.unlisted(l->listener.keeper);
	if (answer->state == CLAIM_UNLISTED || answer->state == CLAIM_PAUSED) {
		pthread_mutex_lock(&l->lock);
		if (answer->state == CLAIM_PAUSED)
			l->paused = true;
		else if (generation == l->generation)
			l->listed = false;
		pthread_mutex_unlock(&l->lock);
	}
	if (answer->state == CLAIM_REFUSED) {
		if (!l->refused)
			log_event(LOG_WARN, "redis refuses new claims", "queue", l->queue->name, "reason",
				  "probably out of memory", "then",
				  "results are still written; claims are tried again every second", NULL);
		l->refused_until_ms = clock_mono_ms() + REFUSED_PAUSE_MS;
	} else if (l->refused) {
		log_event(LOG_INFO, "redis takes claims again", "queue", l->queue->name, NULL);
	}
	l->refused = answer->state == CLAIM_REFUSED;
	if (first)
		hand_out(l, first);
}

static void measure(struct line *l, size_t settled)
{
	int64_t now = clock_mono_us(), us = now - l->last_turn_us;

	if (us > 0)
		l->jobs_per_ms += ((double)settled * 1000.0 / (double)us - l->jobs_per_ms) / 4;
	l->last_turn_us = now;
}

/* One trip: settles what is done, claims up to want. On failure the connection is given up and the turn kept for the next. */
static void take_turn(struct line *l, size_t want)
{
	char worker[WORKER_ID_MAX + 1];
	struct turn_request q = {.worker = worker,
				 .victim = "",
				 .settle = l->settle,
				 .slots = l->claim,
				 .repeated = l->repeated,
				 .dead_max_jobs = l->ctx->settings->dead_max_jobs,
				 .dead_max_bytes = l->ctx->settings->dead_max_bytes};
	struct turn_answer answer = {0};
	struct reply *reply = NULL;
	struct error err = {0};
	unsigned generation = line_generation(l);

	line_worker_id(l, generation, worker);
	if (l->nsent == 0)
		choose_settlements(l);
	choose_slots(l, want);
	for (size_t i = 0; i < l->nsent; i++)
		describe(l, i, worker, generation);
	q.nsettle = l->nsent;
	q.nslots = l->nclaim;
	fault_point("turn:before");
	if (turn_write(&l->turn, l->a, &l->keys, &q, &err) || redis_run(l->a, &l->turn.args, &reply, &err) ||
	    turn_read(reply, &q, &answer, &err)) {
		reply_free(reply);
		lose_a(l, &err);
		return;
	}
	fault_point("turn:after");
	measure(l, l->nsent);
	l->repeated = false;
	for (size_t i = 0; i < q.nsettle; i++)
		after_settled(l, l->sent[i], (enum settled)answer.letters[i]);
	l->nsent = 0;
	after_claim(l, &answer, reply, generation);
	reply_free(reply);
}

/* --- Waiting for the next job. ------------------------------------------------------------------------------------------ */

static void begin_wait(struct line *l)
{
	char worker[WORKER_ID_MAX + 1], slot[KEY_MAX];
	struct error err = {0};
	int64_t limit_ms = l->ctx->settings->lease_ms / 3 < WAIT_MAX_MS ? l->ctx->settings->lease_ms / 3 : WAIT_MAX_MS;
	bool may;

	pthread_mutex_lock(&l->lock);
	/* It must not be served after the lease has run out, when nobody would look into the slot. */
	may = l->nfree > 0 && clock_boot_ms() + limit_ms < l->lease_until_ms;
	if (may)
		l->wait_slot = l->free[--l->nfree];
	pthread_mutex_unlock(&l->lock);
	if (!may)
		return;
	line_worker_id(l, line_generation(l), worker);
	key_slot(&l->keys, worker, l->wait_slot, slot);
	l->wait = WAIT_PENDING;
	l->wait_until_ms = clock_mono_ms() + limit_ms + WAIT_MARGIN_MS;
	fault_point("wait:before");
	if (redis_appendf(l->b, &err, "BLMOVE %s %s RIGHT LEFT %lld.%03lld", l->keys.ready, slot,
			  (long long)(limit_ms / 1000), (long long)(limit_ms % 1000)) ||
	    redis_flush(l->b, &err))
		lose_b(l, &err);
}

/* Ends a wait before its time. The server is asked to, because a connection that was simply closed might still be served. */
static void end_wait(struct line *l)
{
	struct error err = {0};

	if (l->wait != WAIT_PENDING)
		return;
	l->wait = WAIT_UNBLOCKING;
	if (redis_call(l->a, NULL, &err, "CLIENT UNBLOCK %lld", (long long)l->b_client) && err.code == ERR_LINK)
		lose_a(l, &err);
}

static bool may_claim(struct line *l)
{
	bool may;

	pthread_mutex_lock(&l->lock);
	may = l->listed && !l->paused && clock_boot_ms() < l->lease_until_ms;
	pthread_mutex_unlock(&l->lock);
	return may && l->ctx->phase == PHASE_RUN && clock_mono_ms() >= l->refused_until_ms;
}

static void take_waited(struct line *l)
{
	struct reply *reply = NULL;
	struct error err = {0};

	if (redis_poll(l->b, &reply, &err)) {
		lose_b(l, &err);
		return;
	}
	if (!reply && clock_mono_ms() > l->wait_until_ms) {
		error_set(&err, ERR_LINK, "no answer in time");
		lose_b(l, &err);
		return;
	}
	if (!reply)
		return;
	fault_point("wait:after");
	l->wait = WAIT_NONE;
	if (reply_error(reply)) {
		free_slot_unsure(l, l->wait_slot);
		error_set(&err, ERR_LINK, "%s", reply_error(reply));
		lose_b(l, &err);
	} else if (reply_is_nil(reply)) {
		free_slot(l, l->wait_slot);
	} else {
		struct task *t = task_begin(l, l->wait_slot, line_generation(l), reply);

		l->empty = false;
		stock_backlog(l->stock, l->index, true);
		if (!may_claim(l) || stock_crowded(l->stock, l->index))
			hand_back(l, t);
		else
			hand_out(l, t);
	}
	reply_free(reply);
}

/* --- The loop. ---------------------------------------------------------------------------------------------------------- */

/* Whether done tasks are to be settled now, or how long they may gather, in us (-1: nothing is there). */
static bool settle_now(struct line *l, int64_t *gather_us)
{
	bool fast = l->jobs_per_ms >= FAST_JOBS_PER_MS;
	int64_t left;

	*gather_us = -1;
	if (l->nsent > 0 || l->ndone >= BATCH_JOBS || (l->ndone > 0 && !fast))
		return true;
	if (l->ndone == 0)
		return false;
	left = l->first_done_us + GATHER_US - clock_mono_us();
	*gather_us = left;
	return left <= 0;
}

/* Sleeps until woken, a reply on b, or the time has come. */
static void sleep_until_needed(struct line *l, int64_t us)
{
	struct pollfd fds[2] = {{.fd = l->wake_fd, .events = POLLIN},
				{.fd = l->wait != WAIT_NONE && l->b ? redis_fd(l->b) : -1, .events = POLLIN}};
	struct timespec limit = {.tv_sec = us / 1000000, .tv_nsec = us % 1000000 * 1000};
	uint64_t count;

	if (ppoll(fds, 2, &limit, NULL) > 0 && fds[0].revents) {
		ssize_t n = read(l->wake_fd, &count, sizeof count);

		(void)n;
	}
	pthread_mutex_lock(&l->lock);
	l->sleeping = false;
	pthread_mutex_unlock(&l->lock);
}

static void retry_held(struct line *l)
{
	if (!l->held || clock_mono_ms() < l->held_until_ms)
		return;
	pthread_mutex_lock(&l->lock);
	while (l->held) {
		struct task *t = l->held;

		l->held = t->next;
		push_done(l, t);
	}
	pthread_mutex_unlock(&l->lock);
}

static int64_t min64(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

/* One step: exchange a turn where there is something to exchange, else wait. */
static void step(struct line *l)
{
	int64_t gather_us, sleep_us = (int64_t)IDLE_POLL_MS * 1000;
	size_t threads_free = 0, want = 0;
	bool claim = may_claim(l), settle;

	retry_held(l);
	if (claim)
		want = stock_demand(l->stock, l->index, &threads_free);
	else if (l->wait == WAIT_PENDING)
		end_wait(l);
	pthread_mutex_lock(&l->lock);
	settle = settle_now(l, &gather_us);
	if (claim && l->adopt > 0)
		settle = true;
	l->sleeping = !settle;
	l->wake_at = gather_us >= 0 ? BATCH_JOBS : 1;
	pthread_mutex_unlock(&l->lock);
	if (l->empty) /* one waits for the next job; asking in turns too would only cost Redis time */
		want = 0;
	if (settle || (want > 0 && (threads_free > 0 || want >= STOCK_MAX / 2))) {
		pthread_mutex_lock(&l->lock);
		l->sleeping = false;
		pthread_mutex_unlock(&l->lock);
		if (l->a)
			take_turn(l, want);
		return;
	}
	if (claim && l->empty && l->wait == WAIT_NONE && l->b)
		begin_wait(l);
	if (gather_us >= 0)
		sleep_us = min64(sleep_us, gather_us);
	else if (want > 0)
		sleep_us = GATHER_US;
	if (l->held)
		sleep_us = min64(sleep_us, HELD_MS * 1000);
	sleep_until_needed(l, sleep_us);
	if (l->wait != WAIT_NONE)
		take_waited(l);
}

/* All jobs are settled: the worker goes off the list; what a lost reply left in a slot is handed back on the way. */
static bool leave(struct line *l)
{
	char worker[WORKER_ID_MAX + 1];
	struct error err = {0};

	line_worker_id(l, line_generation(l), worker);
	if (reap_own(l->a, &l->turn, &l->keys, l->ctx->settings, worker, l->nslots, &err) == 0)
		return true;
	lose_a(l, &err);
	return false;
}

static bool all_settled(struct line *l)
{
	bool settled;

	hand_back_all(l, stock_empty(l->stock, l->index));
	pthread_mutex_lock(&l->lock);
	settled = l->nbusy == 0;
	pthread_mutex_unlock(&l->lock);
	return settled && l->wait == WAIT_NONE;
}

static void *line_main(void *arg)
{
	struct line *l = arg;

	while (!l->give_up) {
		if ((!l->a || !l->b) && connect_both(l)) {
			sleep_until_needed(l, 1000 * health_backoff_ms(++l->tries));
			continue;
		}
		if (l->ctx->phase >= PHASE_DRAIN && all_settled(l) && leave(l)) {
			l->clean = true;
			break;
		}
		if (l->a && l->b)
			step(l);
	}
	l->ended = true;
	return NULL;
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
