/* SPDX-License-Identifier: MIT
 *
 * See keeper.h. */
#include "worker/keeper.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fault_point.h"
#include "base/log.h"
#include "pool/pool.h"
#include "worker/reap.h"

#define ROUND_MAX_MS 800  /* a pause holds from one second on */
#define DUE_MAX 100	  /* jobs moved to ready in one script call */
#define GRACE_MIN_MS 3000 /* longer than any worker's pause before it tries to connect again */
#define REAP_SLICE_MS 500 /* a round reaps no longer: leases, pauses and cancellations must not wait for it */
#define AUDIT_SLOTS 512
#define TICK_FIRST_EXPIRED 8
#define CANCEL_JOBS 256
#define WRITES_MS (3 * ROUND_MAX_MS) /* a probe older than this says nothing */
#define SWEEP_WORKERS 16	     /* looked at in one audit */

struct charge { /* what the keeper knows of one line */
	struct line *line;
	_Atomic int64_t ready, delayed, dead; /* these are read by others */
	_Atomic bool paused;
	_Atomic int64_t written_ms; /* mono: when the last probe was written */
	bool registered;
	size_t sweep_at;      /* which of the gone workers is looked at next */
	int64_t reap_from_ms; /* mono: nobody is reaped earlier */
	bool late;	      /* told that the lease was renewed late */
	bool refused;	      /* told that Redis refuses our commands for this queue */
	bool stuck;	      /* told that a dead worker cannot be reaped */
};

struct keeper {
	struct context *ctx;
	pthread_t thread;
	bool started;
	_Atomic int64_t turned_ms; /* mono; 0: not started */
	pthread_mutex_t lock;	   /* guards the next three */
	pthread_cond_t changed;
	int64_t next_ms; /* mono: when the next round is due at the latest */
	bool stop;
	struct charge charges[QUEUES_MAX];
	size_t ncharges;
	struct redis *r;
	bool lost, connected_once;
	unsigned tries;
	int64_t reap_from_ms; /* mono: live workers first get a lease time to renew, after Redis or our way to it came back */
	int64_t reap_until_ms; /* mono: others' jobs are put back until then, lest our own leases run out meanwhile */
	int64_t audit_from_ms;
	struct redis_args turn;
	struct line_job jobs[CANCEL_JOBS];
	char host[64];
};

struct keeper *keeper_new(struct context *ctx, struct error *err)
{
	struct keeper *k = calloc(1, sizeof *k);
	pthread_condattr_t attr;

	if (!k) {
		error_set(err, ERR_MEMORY, "out of memory");
		return NULL;
	}
	k->ctx = ctx;
	pthread_mutex_init(&k->lock, NULL);
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_cond_init(&k->changed, &attr);
	pthread_condattr_destroy(&attr);
	if (gethostname(k->host, sizeof k->host - 1))
		snprintf(k->host, sizeof k->host, "unknown");
	return k;
}

void keeper_free(struct keeper *k)
{
	if (!k)
		return;
	redis_close(k->r);
	redis_args_release(&k->turn);
	pthread_cond_destroy(&k->changed);
	pthread_mutex_destroy(&k->lock);
	free(k);
}

/* --- What lines tell. --------------------------------------------------------------------------------------------------- */

static void next_at(struct keeper *k, int64_t at_ms)
{
	pthread_mutex_lock(&k->lock);
	if (at_ms < k->next_ms) {
		k->next_ms = at_ms;
		pthread_cond_signal(&k->changed);
	}
	pthread_mutex_unlock(&k->lock);
}

static void on_due(void *keeper, int64_t in_ms)
{
	/* One ms later than asked, so that Redis's clock has surely passed it too. */
	next_at(keeper, clock_mono_ms() + (in_ms > 0 ? in_ms : 0) + 1);
}

static void on_unlisted(void *keeper)
{
	next_at(keeper, 0);
}

struct line_listener keeper_listener(struct keeper *k)
{
	return (struct line_listener){.due = on_due, .unlisted = on_unlisted, .keeper = k};
}

/* --- A round. ----------------------------------------------------------------------------------------------------------- */

static void lose(struct keeper *k, const struct error *err)
{
	int64_t opened_ms = k->r ? redis_opened_ms(k->r) : INT64_MAX;
	char where[256];

	redis_show(&k->ctx->address, k->r, where, sizeof where);
	redis_close(k->r);
	k->r = NULL;
	if (k->lost)
		health_still_lost(&k->ctx->health, where, err->msg);
	else
		health_lost(&k->ctx->health, where, err->msg, opened_ms);
	k->lost = true;
}

/* An error reply concerns one queue: it is told once, and the round goes on (0). A lost connection ends the round (-1). */
static int trouble(struct keeper *k, struct charge *c, const struct error *err)
{
	if (err->code != ERR_REFUSED) {
		lose(k, err);
		return -1;
	}
	if (!c->refused)
		log_event(LOG_ERROR, "redis refuses the keeper", "queue", line_queue(c->line), "reason", err->msg,
			  "then", "leases and due jobs of this queue wait; it is tried again every round", NULL);
	c->refused = true;
	return 0;
}

static int64_t grace_ms(const struct keeper *k)
{
	int64_t lease_ms = k->ctx->settings->lease_ms;

	return lease_ms < GRACE_MIN_MS ? GRACE_MIN_MS : lease_ms;
}

/* What kept us from renewing probably kept the others too: they get the time in which they all would have renewed. */
static void grant_grace(struct keeper *k, struct charge *c)
{
	c->reap_from_ms = clock_mono_ms() + grace_ms(k);
}

/* Redis took so long for one thing that it must have hung, as it does while a disk keeps it waiting: whoever comes just then sees leases that
 * nobody could renew. */
static bool has_hung(const struct keeper *k, int64_t took_ms)
{
	return took_ms > k->ctx->settings->lease_ms / 4;
}

/* One worker that cannot be reaped must not keep us from the next. -1: the connection is lost. */
static int go_past(struct keeper *k, struct charge *c, const char *worker, struct error *err)
{
	if (err->code != ERR_REFUSED)
		return trouble(k, c, err);
	if (!c->stuck)
		log_event(LOG_ERROR, "a dead worker cannot be reaped", "queue", line_queue(c->line), "worker", worker,
			  "reason", err->msg, "then", "its jobs wait; it is tried again every round", NULL);
	c->stuck = true;
	*err = (struct error){0};
	return 0;
}

/* A line's was made later, and is with another Redis. */
static void follow(struct keeper *k)
{
	struct error err = {0};

	for (size_t i = 0; i < k->ncharges && k->r; i++) {
		if (line_is_at(k->charges[i].line, k->r))
			continue;
		error_set(&err, ERR_LINK, "%s", LINE_REPLACED);
		lose(k, &err);
	}
}

static int connect_redis(struct keeper *k)
{
	struct error err = {0};
	int64_t up_ms, began_ms = clock_mono_ms();
	char where[256];

	follow(k);
	if (k->r)
		return 0;
	k->r = redis_open(&k->ctx->address, line_keys(k->charges[0].line)->ready, true, &err);
	if (!k->r) {
		lose(k, &err);
		return -1;
	}
	for (size_t i = 0; i < k->ncharges; i++)
		line_arrived(k->charges[i].line, k->r);
	up_ms = k->connected_once ? 0 : redis_uptime_s(k->r) * 1000;
	if (has_hung(k, clock_mono_ms() - began_ms) || has_hung(k, k->connected_once ? 0 : k->ctx->waited_for_redis_ms))
		up_ms = 0;
	k->reap_from_ms = clock_mono_ms() + (up_ms < grace_ms(k) ? grace_ms(k) - up_ms : 0);
	k->connected_once = true;
	redis_show(&k->ctx->address, k->r, where, sizeof where);
	if (k->lost)
		health_back(&k->ctx->health, where);
	k->lost = false;
	return 0;
}

static void write_tick(struct keeper *k, const struct charge *c, const char *worker, struct redis_args *args,
		       char name[KEY_MAX])
{
	const struct keys *keys = line_keys(c->line);

	key_worker(keys, worker, name);
	redis_args_script(args, k->r, SCRIPT_TICK);
	redis_arg_int(args, 7);
	redis_arg_str(args, keys->workers);
	redis_arg_str(args, name);
	redis_arg_str(args, keys->delayed);
	redis_arg_str(args, keys->ready);
	redis_arg_str(args, keys->paused);
	redis_arg_str(args, keys->dead);
	redis_arg_str(args, keys->cancelled);
	redis_arg_str(args, worker);
	redis_arg_int(args, k->ctx->settings->lease_ms);
	redis_arg_str(args, c->registered ? "renew" : "register");
	redis_arg_int(args, DUE_MAX);
	redis_arg_int(args, k->ctx->settings->result_ttl_s * 1000);
	redis_arg_str(args, "slots");
	redis_arg_int(args, line_slots(c->line));
	redis_arg_str(args, "busy");
	redis_arg_int(args, line_busy(c->line));
	if (c->registered)
		return;
	redis_arg_str(args, "host");
	redis_arg_str(args, k->host);
	redis_arg_str(args, "pid");
	redis_arg_int(args, getpid());
	redis_arg_str(args, "version");
	redis_arg_str(args, ADWUMA_VERSION);
	redis_arg_str(args, "threads");
	redis_arg_int(args, k->ctx->settings->threads);
	redis_arg_str(args, "started_at_ms");
	redis_arg_int(args, k->ctx->started_at_ms);
}

static int forget(struct keeper *k, struct charge *c, const char *name, size_t len)
{
	struct redis_args args = {0};
	struct error err = {0};
	int rc;

	redis_arg_str(&args, "ZREM");
	redis_arg_str(&args, line_keys(c->line)->workers);
	redis_arg(&args, name, len);
	rc = redis_run(k->r, &args, NULL, &err);
	redis_args_release(&args);
	return rc ? trouble(k, c, &err) : 0;
}

static int reap_expired(struct keeper *k, struct charge *c, const struct reply *tick, const char *own)
{
	struct error err = {0};
	bool whole = true;

	if (clock_mono_ms() < k->reap_from_ms || clock_mono_ms() < c->reap_from_ms)
		return 0;
	for (size_t i = TICK_FIRST_EXPIRED; i < reply_count(tick); i++) {
		size_t jobs = 0, len = 0;
		const char *worker = reply_bytes(reply_at(tick, i), &len);

		if (!worker || strcmp(worker, own) == 0 || line_owns(c->line, worker))
			continue;
		if (strlen(worker) != len || len > WORKER_ID_MAX) { /* none of ours; it would only be in the way */
			if (forget(k, c, worker, len))
				return -1;
			continue;
		}
		if (reap_worker(k->r, &k->turn, line_keys(c->line), k->ctx->settings,
				metrics_queue(k->ctx->metrics, line_index(c->line)), line_queue(c->line), worker,
				k->reap_until_ms, &jobs, &err)) {
			if (go_past(k, c, worker, &err))
				return -1;
			whole = false;
		}
		k->ctx->reaped += jobs;
		if (jobs > 0)
			log_event(LOG_WARN, "jobs of a dead worker put back", "queue", line_queue(c->line), "worker",
				  worker, "jobs", log_int((long long)jobs), NULL);
		if (clock_mono_ms() >= k->reap_until_ms) {
			next_at(k, 0);
			return 0;
		}
	}
	c->stuck = c->stuck && !whole;
	return 0;
}

/* Struck off by another's keeper: what we hold may be running elsewhere. On under the next id. */
static void struck_off(struct keeper *k, struct charge *c)
{
	line_lease_lost(c->line);
	c->registered = false;
	log_event(LOG_WARN, "lease lost", "queue", line_queue(c->line), "why", "struck off the list", "then",
		  "going on under a new id", NULL);
	next_at(k, 0);
}

/* Still listed, so still watched: each slot that was emptied meanwhile is fenced by its job's identity, and calls that run are not made twice. */
static void lapsed(struct keeper *k, struct charge *c)
{
	grant_grace(k, c);
	line_lease_lapsed(c->line);
	if (c->late)
		return;
	c->late = true;
	log_event(LOG_WARN, "lease renewed late", "queue", line_queue(c->line), "then",
		  "jobs that were waiting here are handed back", NULL);
}

/* The line has left the list while we were putting it there. */
static int take_off_again(struct keeper *k, struct charge *c, const char *worker)
{
	struct error err = {0};

	if (reap_own(k->r, &k->turn, line_keys(c->line), k->ctx->settings, worker, line_slots(c->line), &err))
		return trouble(k, c, &err);
	return 0;
}

/* Which of the jobs that are here are no longer wanted: their calls end now. */
static int cancel_jobs(struct keeper *k, struct charge *c)
{
	struct line_job *jobs = k->jobs;
	struct redis_args args = {0};
	struct error err = {0};
	unsigned from = 0;
	size_t n;
	int rc = 0;

	while (rc == 0 && (n = line_jobs(c->line, &from, jobs, CANCEL_JOBS)) > 0) {
		struct reply *scores = NULL;

		redis_args_clear(&args);
		redis_arg_str(&args, "ZMSCORE");
		redis_arg_str(&args, line_keys(c->line)->cancelled);
		for (size_t i = 0; i < n; i++)
			redis_arg_str(&args, jobs[i].id);
		fault_point("cancel:before");
		rc = redis_run(k->r, &args, &scores, &err);
		fault_point("cancel:after");
		for (size_t i = 0; rc == 0 && i < n; i++)
			if (!reply_is_nil(reply_at(scores, i)))
				line_cancel(c->line, &jobs[i]);
		reply_free(scores);
	}
	redis_args_release(&args);
	return rc ? trouble(k, c, &err) : 0;
}

/* A write like those of others, which a full, read-only or failing Redis refuses; readiness goes by it. It leaves nothing behind. */
static int probe(struct keeper *k, struct charge *c)
{
	struct reply *reply = NULL;
	struct error err = {0};

	if (redis_appendf(k->r, &err, "SET %sprobe 1 PX 1", line_keys(c->line)->stem) ||
	    redis_receive(k->r, &reply, &err))
		return trouble(k, c, &err);
	if (!reply_error(reply))
		c->written_ms = clock_mono_ms();
	reply_free(reply);
	return 0;
}

/* By how much Redis's clock, which said now at some moment between two of ours, is surely ahead (or behind, negative). */
static int64_t surely_ahead_ms(int64_t now, int64_t before, int64_t after)
{
	if (now > after)
		return now - after;
	return now < before ? now - before : 0;
}

static int tick(struct keeper *k, struct charge *c)
{
	char worker[WORKER_ID_MAX + 1], name[KEY_MAX];
	struct redis_args args = {0};
	struct reply *reply = NULL;
	struct error err = {0};
	int64_t sent_ms = clock_boot_ms(), real_ms = clock_real_ms(), began_ms = clock_mono_ms(), now, due, cancelled;
	const char *state;
	int rc;

	if (!c->registered && k->ctx->phase >= PHASE_DRAIN)
		return 0;
	line_worker_id(c->line, line_generation(c->line), worker);
	write_tick(k, c, worker, &args, name);
	fault_point("tick:before");
	rc = redis_run(k->r, &args, &reply, &err);
	redis_args_release(&args);
	if (rc) {
		grant_grace(k, c);
		return trouble(k, c, &err);
	}
	if (has_hung(k, clock_mono_ms() - began_ms))
		grant_grace(k, c);
	state = reply_bytes(reply_at(reply, 0), NULL);
	now = reply_int(reply_at(reply, 1), 0);
	fault_point("tick:after");
	c->refused = false;
	if (state && strcmp(state, "struck") == 0) {
		if (k->ctx->phase < PHASE_DRAIN) /* at the end the line needs no list */
			struck_off(k, c);
	} else {
		/* By our own clock too: an answer that said so may have been lost. */
		if ((state && strcmp(state, "late") == 0) || line_lease_out(c->line))
			lapsed(k, c);
		else
			c->late = false;
		line_renewed(c->line, sent_ms + k->ctx->settings->lease_ms);
		if (!c->registered && line_leaving(c->line) && take_off_again(k, c, worker)) {
			reply_free(reply);
			return -1;
		}
		c->registered = true;
	}
	line_set_ahead(c->line, surely_ahead_ms(now, real_ms, clock_real_ms()));
	due = reply_int(reply_at(reply, 2), -1);
	if (due >= 0)
		on_due(k, due - now);
	c->paused = reply_int(reply_at(reply, 3), 0) != 0;
	c->ready = reply_int(reply_at(reply, 4), 0);
	c->delayed = reply_int(reply_at(reply, 5), 0);
	c->dead = reply_int(reply_at(reply, 6), 0);
	health_answered(&k->ctx->health);
	line_pause(c->line, c->paused);
	cancelled = reply_int(reply_at(reply, 7), 0);
	rc = reap_expired(k, c, reply, worker);
	reply_free(reply);
	if (rc == 0 && cancelled > 0)
		rc = cancel_jobs(k, c);
	return rc ? rc : probe(k, c);
}

/* Rule: what the own free slots hold, no thread has. The line claims such a slot next, and so adopts the job. */
static int audit(struct keeper *k, struct charge *c)
{
	struct line *l = c->line;
	unsigned slots[AUDIT_SLOTS];
	char worker[WORKER_ID_MAX + 1], name[KEY_MAX];
	struct error err = {0};
	size_t n;

	line_worker_id(l, line_generation(l), worker);
	for (size_t from = 0; (n = line_free_slots(l, slots, AUDIT_SLOTS, from)) > 0; from += n) {
		for (size_t i = 0; i < n; i++) {
			key_slot(line_keys(l), worker, slots[i], name);
			if (redis_appendf(k->r, &err, "EXISTS %s", name))
				break;
		}
		fault_point("audit:before");
		for (size_t i = 0; i < n && !err.code; i++) {
			struct reply *reply = NULL;

			if (redis_receive(k->r, &reply, &err) == 0 && reply_int(reply, 0) > 0)
				line_adopt(l, slots[i]);
			reply_free(reply);
		}
		if (err.code)
			return trouble(k, c, &err);
	}
	return 0;
}

/* Slots that nobody lists: a wait of a worker that was struck off may have been served late. */
static int sweep(struct keeper *k, struct charge *c)
{
	const struct keys *keys = line_keys(c->line);
	struct reply *gone = NULL;
	struct error err = {0};
	int rc = 0;

	if (redis_call(k->r, &gone, &err, "ZRANGE %s %lld %lld", keys->gone, (long long)c->sweep_at,
		       (long long)(c->sweep_at + SWEEP_WORKERS - 1)))
		return trouble(k, c, &err);
	for (size_t i = 0; rc == 0 && i < reply_count(gone); i++) {
		const char *entry = reply_bytes(reply_at(gone, i), NULL), *worker = entry ? strchr(entry, ' ') : NULL;
		size_t jobs = 0;

		if (!worker || line_owns(c->line, worker + 1))
			continue;
		rc = reap_gone(k->r, &k->turn, keys, k->ctx->settings,
			       metrics_queue(k->ctx->metrics, line_index(c->line)), line_queue(c->line), worker + 1,
			       strtol(entry, NULL, 10), k->reap_until_ms, &jobs, &err);
		if (rc)
			rc = go_past(k, c, worker + 1, &err);
		k->ctx->reaped += jobs;
		if (jobs > 0)
			log_event(LOG_WARN, "jobs found in slots that nobody listed", "queue", line_queue(c->line),
				  "worker", worker + 1, "jobs", log_int((long long)jobs), NULL);
	}
	c->sweep_at = reply_count(gone) == SWEEP_WORKERS ? c->sweep_at + SWEEP_WORKERS : 0;
	reply_free(gone);
	return rc;
}

static void make_round(struct keeper *k)
{
	int64_t lease_ms = k->ctx->settings->lease_ms;
	bool audit_now = clock_mono_ms() >= k->audit_from_ms;

	k->reap_until_ms = clock_mono_ms() + (lease_ms / 4 < REAP_SLICE_MS ? lease_ms / 4 : REAP_SLICE_MS);
	if (audit_now)
		k->audit_from_ms = clock_mono_ms() + k->ctx->settings->lease_ms;
	for (size_t i = 0; i < k->ncharges; i++)
		if (tick(k, &k->charges[i]) || (audit_now && (audit(k, &k->charges[i]) || sweep(k, &k->charges[i]))))
			return;
	k->tries = 0;
}

/* Until the next round is due. False: stop. */
static bool wait_for_round(struct keeper *k)
{
	bool go_on;

	pthread_mutex_lock(&k->lock);
	while (!k->stop && clock_mono_ms() < k->next_ms) {
		struct timespec at = {.tv_sec = k->next_ms / 1000, .tv_nsec = k->next_ms % 1000 * 1000000};

		pthread_cond_timedwait(&k->changed, &k->lock, &at);
	}
	go_on = !k->stop;
	k->next_ms = clock_mono_ms() +
		     (k->ctx->settings->lease_ms / 4 < ROUND_MAX_MS ? k->ctx->settings->lease_ms / 4 : ROUND_MAX_MS);
	pthread_mutex_unlock(&k->lock);
	return go_on;
}

static void *keeper_main(void *arg)
{
	struct keeper *k = arg;

	while (wait_for_round(k)) {
		k->turned_ms = clock_mono_ms();
		if (connect_redis(k) == 0)
			make_round(k);
		if (!k->r)
			next_at(k, clock_mono_ms() + health_backoff_ms(++k->tries));
	}
	return NULL;
}

void keeper_figures(const struct keeper *k, size_t queue, struct keeper_figures *out)
{
	const struct charge *c = &k->charges[queue];

	*out = (struct keeper_figures){.ready = c->ready, .delayed = c->delayed, .dead = c->dead, .paused = c->paused};
}

bool keeper_writes(const struct keeper *k, size_t queue)
{
	int64_t written_ms = k->charges[queue].written_ms;

	return written_ms > 0 && clock_mono_ms() - written_ms < WRITES_MS;
}

int64_t keeper_turned_ms(const struct keeper *k)
{
	return k->turned_ms;
}

int keeper_start(struct keeper *k, struct line **lines, size_t nlines, struct error *err)
{
	for (size_t i = 0; i < nlines; i++)
		k->charges[i].line = lines[i];
	k->ncharges = nlines;
	k->audit_from_ms = clock_mono_ms() + k->ctx->settings->lease_ms;
	if (pool_thread(&k->thread, "keeper", keeper_main, k, err))
		return -1;
	k->started = true;
	return 0;
}

void keeper_end(struct keeper *k)
{
	pthread_mutex_lock(&k->lock);
	k->stop = true;
	pthread_cond_signal(&k->changed);
	pthread_mutex_unlock(&k->lock);
}

void keeper_stop(struct keeper *k)
{
	if (!k->started)
		return;
	keeper_end(k);
	pthread_join(k->thread, NULL);
	k->started = false;
}
