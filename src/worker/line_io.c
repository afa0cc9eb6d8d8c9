/* SPDX-License-Identifier: MIT
 *
 * See line_parts.h. Here: the I/O thread. Its life is line_main(): connect, exchange a turn, or wait; every step returns to the loop on
 * failure, and nothing is ever dropped. */
#include <poll.h>
#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fault_point.h"
#include "base/log.h"
#include "worker/line_parts.h"
#include "worker/reap.h"

#define IDLE_POLL_MS 1000
#define FAST_JOBS_PER_MS 4
#define BATCH_JOBS 32
#define GATHER_US 1000
#define WAIT_MAX_MS 5000 /* for one BLMOVE: a silent peer is noticed soon after */
#define WAIT_MARGIN_MS 2000
#define UNBLOCK_AGAIN_US 2000

/* --- Connections. ------------------------------------------------------------------------------------------------------- */

static void lose(struct line *l, struct redis **link, bool *lost, const char *reason)
{
	int64_t opened_ms = *link ? redis_opened_ms(*link) : INT64_MAX;
	char where[256];

	redis_show(&l->ctx->address, *link, where, sizeof where);
	redis_close(*link);
	*link = NULL;
	if (*lost)
		health_still_lost(&l->ctx->health, where, reason);
	else
		health_lost(&l->ctx->health, where, reason, opened_ms);
	*lost = true;
}

void line_lose_a(struct line *l, const struct error *err)
{
	lose(l, &l->a, &l->a_lost, err->msg);
	l->repeated = l->nsent > 0;
	while (l->nclaim > 0)
		line_free_slot_unsure(l, l->claim[--l->nclaim]);
}

/* The wait that used the slot has ended. */
static unsigned take_wait_slot(struct line *l, bool *suspect)
{
	unsigned slot;

	pthread_mutex_lock(&l->lock);
	slot = l->wait_slot;
	*suspect = l->wait_suspect;
	l->wait_slot = l->nslots;
	l->wait_suspect = false;
	pthread_mutex_unlock(&l->lock);
	return slot;
}

static void free_wait_slot(struct line *l, bool unsure)
{
	bool suspect;
	unsigned slot = take_wait_slot(l, &suspect);

	if (unsure || suspect)
		line_free_slot_unsure(l, slot);
	else
		line_free_slot(l, slot);
}

static void lose_b(struct line *l, const struct error *err)
{
	lose(l, &l->b, &l->b_lost, err->msg);
	if (l->wait != WAIT_NONE)
		free_wait_slot(l, true);
	l->wait = WAIT_NONE;
	l->empty = false;
}

void line_rest(struct line *l, const struct error *err)
{
	if (!l->resting)
		log_event(LOG_ERROR, "redis refuses a command", "queue", l->queue->name, "reason", err->msg, "then",
			  "nothing is lost; it is tried again every second", NULL);
	l->resting = true;
	l->rest_until_ms = clock_mono_ms() + RETRY_MS;
}

void line_well(struct line *l)
{
	if (l->resting)
		log_event(LOG_INFO, "redis takes commands again", "queue", l->queue->name, NULL);
	l->resting = false;
}

static void found(struct line *l, const struct redis *link, bool *lost)
{
	char where[256];

	redis_show(&l->ctx->address, link, where, sizeof where);
	if (*lost)
		health_back(&l->ctx->health, where);
	*lost = false;
}

static int open_b(struct line *l, struct error *err)
{
	struct reply *reply = NULL;

	l->b = redis_open(&l->ctx->address, l->keys.ready, false, err);
	if (!l->b || redis_call(l->b, &reply, err, "CLIENT ID"))
		return -1;
	l->b_client = reply_int(reply, 0);
	reply_free(reply);
	return 0;
}

/* The other one, or the keeper's, was made later, and is with another Redis. */
static void follow(struct line *l)
{
	struct error err = {0};

	if (!l->moved)
		return;
	l->moved = false;
	error_set(&err, ERR_LINK, "%s", LINE_REPLACED);
	if (l->a && !line_is_at(l, l->a))
		line_lose_a(l, &err);
	if (l->b && !line_is_at(l, l->b))
		lose_b(l, &err);
}

static void connect_a(struct line *l)
{
	struct error err = {0};

	l->a = redis_open(&l->ctx->address, l->keys.ready, true, &err);
	if (!l->a) {
		line_lose_a(l, &err);
		return;
	}
	found(l, l->a, &l->a_lost);
	l->empty = false;
	line_arrived(l, l->a);
}

static void connect_b(struct line *l)
{
	struct error err = {0};

	if (open_b(l, &err)) {
		lose_b(l, &err);
		return;
	}
	found(l, l->b, &l->b_lost);
	line_arrived(l, l->b);
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
	l->wait_generation = l->generation;
	l->wait_lease = l->lease;
	pthread_mutex_unlock(&l->lock);
	if (!may)
		return;
	line_worker_id(l, l->wait_generation, worker);
	key_slot(&l->keys, worker, l->wait_slot, slot);
	l->wait = WAIT_PENDING;
	l->wait_until_ms = clock_mono_ms() + limit_ms + WAIT_MARGIN_MS;
	fault_point("wait:before");
	if (redis_appendf(l->b, &err, "BLMOVE %s %s RIGHT LEFT %lld.%03lld", l->keys.ready, slot,
			  (long long)(limit_ms / 1000), (long long)(limit_ms % 1000)) ||
	    redis_flush(l->b, &err))
		lose_b(l, &err);
}

/* Ends a wait before its time. The server is asked to, because a connection that was simply closed might still be served. Where it says that
 * nobody waits, it has not yet read our BLMOVE, or its answer is on its way: it is asked again as long as none has come. */
static void end_wait(struct line *l)
{
	struct reply *reply = NULL;
	struct error err = {0};

	if (l->wait != WAIT_PENDING)
		return;
	if (redis_call(l->a, &reply, &err, "CLIENT UNBLOCK %lld", (long long)l->b_client) == 0) {
		if (reply_int(reply, 0) > 0)
			l->wait = WAIT_UNBLOCKING;
	} else if (err.code == ERR_LINK) {
		line_lose_a(l, &err);
	} else {
		l->wait = WAIT_UNBLOCKING; /* we may not: it ends by itself */
	}
	reply_free(reply);
}

static bool is_resting(const struct line *l)
{
	return clock_mono_ms() < l->rest_until_ms;
}

static bool may_claim(struct line *l)
{
	bool may;

	pthread_mutex_lock(&l->lock);
	may = l->listed && !l->paused && clock_boot_ms() < l->lease_until_ms;
	pthread_mutex_unlock(&l->lock);
	return may && l->ctx->phase == PHASE_RUN && clock_mono_ms() >= l->refused_until_ms && !is_resting(l);
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
	if (!reply_error(reply) && !reply_is_nil(reply) && !reply_bytes(reply, NULL)) {
		error_set(&err, ERR_LINK, "BLMOVE gave an answer of another shape");
		lose_b(l, &err);
		reply_free(reply);
		return;
	}
	l->wait = WAIT_NONE;
	if (reply_error(reply)) {
		free_wait_slot(l, false); /* an error reply: nothing was moved */
		error_set(&err, ERR_LINK, "%s", reply_error(reply));
		if (reply_passes(reply))
			lose_b(l, &err);
		else
			line_rest(l, &err);
		reply_free(reply);
		return;
	}
	line_well(l);
	l->b_tries = (struct tries){0};
	if (reply_is_nil(reply)) {
		free_wait_slot(l, false);
	} else {
		/* Where the slot held another job already, the audit finds that one when this one is settled. */
		bool suspect;
		unsigned slot = take_wait_slot(l, &suspect);
		struct task *t = line_begin_task(l, slot, l->wait_generation, l->wait_lease, reply);

		l->empty = false;
		stock_backlog(l->stock, l->index, true);
		if (!may_claim(l) || stock_crowded(l->stock, l->index))
			line_hand_back(l, t);
		else
			line_hand_out(l, t, true, true);
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

/* Redis ended it while nothing was under way, as its setting timeout asks. Whether Redis is lost shows when it is made anew. */
static void drop(struct redis **link)
{
	redis_close(*link);
	*link = NULL;
}

/* Sleeps until woken, a reply on b, the end of a connection on which none is awaited, or the time has come. */
static void sleep_until_needed(struct line *l, int64_t us)
{
	bool waits = l->wait != WAIT_NONE;
	struct pollfd fds[3] = {{.fd = l->wake_fd, .events = POLLIN},
				{.fd = l->b ? redis_fd(l->b) : -1, .events = waits ? POLLIN : POLLRDHUP},
				{.fd = l->a ? redis_fd(l->a) : -1, .events = POLLRDHUP}};
	struct timespec limit = {.tv_sec = us / 1000000, .tv_nsec = us % 1000000 * 1000};
	uint64_t count;

	if (ppoll(fds, 3, &limit, NULL) > 0 && fds[0].revents) {
		ssize_t n = read(l->wake_fd, &count, sizeof count);

		(void)n;
	}
	if (fds[1].revents && !waits)
		drop(&l->b);
	if (fds[2].revents)
		drop(&l->a);
	pthread_mutex_lock(&l->lock);
	l->sleeping = false;
	pthread_mutex_unlock(&l->lock);
}

static void retry_held(struct line *l)
{
	if (!l->held || clock_mono_ms() < l->held_until_ms)
		return;
	l->nheld = 0;
	pthread_mutex_lock(&l->lock);
	while (l->held) {
		struct task *t = l->held;

		l->held = t->next;
		line_push_done(l, t);
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
	int64_t gather_us = -1, sleep_us = (int64_t)IDLE_POLL_MS * 1000;
	size_t threads_free = 0, want = 0;
	bool claim = may_claim(l), resting = is_resting(l), settle, end;

	retry_held(l);
	if (claim)
		want = stock_demand(l->stock, l->index, &threads_free);
	pthread_mutex_lock(&l->lock);
	end = !claim || l->wait_suspect;
	want = want < l->nfree ? want : l->nfree;
	pthread_mutex_unlock(&l->lock);
	if (end)
		end_wait(l);
	pthread_mutex_lock(&l->lock);
	settle = !resting && settle_now(l, &gather_us);
	if (claim && l->adopt > 0)
		settle = true;
	l->sleeping = !settle;
	l->wake_at = resting ? SIZE_MAX : gather_us >= 0 ? BATCH_JOBS : 1;
	pthread_mutex_unlock(&l->lock);
	if (l->empty) /* one waits for the next job; asking in turns too would only cost Redis time */
		want = 0;
	if (settle || (want > 0 && (threads_free > 0 || want >= STOCK_MAX / 2))) {
		pthread_mutex_lock(&l->lock);
		l->sleeping = false;
		pthread_mutex_unlock(&l->lock);
		if (l->a)
			line_take_turn(l, claim, want);
		return;
	}
	if (claim && l->empty && l->wait == WAIT_NONE && l->b)
		begin_wait(l);
	if (gather_us >= 0)
		sleep_us = min64(sleep_us, gather_us);
	else if (want > 0)
		sleep_us = GATHER_US;
	if (l->held || resting)
		sleep_us = min64(sleep_us, RETRY_MS * 1000);
	if (l->wait == WAIT_PENDING && end)
		sleep_us = min64(sleep_us, UNBLOCK_AGAIN_US);
	sleep_until_needed(l, sleep_us);
	if (l->wait != WAIT_NONE)
		take_waited(l);
}

/* All jobs are settled: the worker goes off the list; what a lost reply left in a slot is handed back on the way. */
static bool leave(struct line *l)
{
	char worker[WORKER_ID_MAX + 1];
	struct error err = {0};

	l->leaving = true;
	line_worker_id(l, line_generation(l), worker);
	if (reap_own(l->a, &l->turn, &l->keys, l->ctx->settings, worker, l->nslots, &err) == 0)
		return true;
	line_lose_a(l, &err);
	return false;
}

static bool all_settled(struct line *l)
{
	bool settled;

	line_hand_back_all(l, stock_empty(l->stock, l->index));
	pthread_mutex_lock(&l->lock);
	settled = l->nbusy == 0;
	pthread_mutex_unlock(&l->lock);
	return settled && l->wait == WAIT_NONE;
}

/* True: both are there. Else the one that is missing, a before b, is made where it is time for that; the first try is made at once. */
static bool connected(struct line *l)
{
	struct tries *t;
	int64_t wait_ms;

	follow(l);
	if (l->a && l->b)
		return true;
	t = l->a ? &l->b_tries : &l->a_tries;
	wait_ms = t->next_ms - clock_mono_ms();
	if (wait_ms > 0) {
		sleep_until_needed(l, 1000 * wait_ms);
		if (l->b && l->wait != WAIT_NONE)
			take_waited(l);
		return false;
	}
	t->next_ms = clock_mono_ms() + health_backoff_ms(++t->n);
	if (l->a)
		connect_b(l);
	else
		connect_a(l);
	return false;
}

void *line_main(void *arg)
{
	struct line *l = arg;

	while (l->ctx->phase < PHASE_GIVE_UP) {
		l->turned_ms = clock_mono_ms();
		if (!connected(l))
			continue;
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
