/* SPDX-License-Identifier: MIT
 *
 * See line_parts.h. Here: what is settled and claimed in a trip, and what its answer means. */
#include "base/clock.h"
#include "base/fault_point.h"
#include "base/log.h"
#include "job/outcome.h"
#include "worker/line_parts.h"

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

/* Takes up to want free slots into claim, where that is allowed; a slot under suspicion comes first. */
static void choose_slots(struct line *l, bool claim, size_t want)
{
	pthread_mutex_lock(&l->lock);
	if (!claim)
		want = 0;
	else if (want < l->adopt)
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
		.forget_pieces = t->forget_pieces,
		.streams = t->streams,
		.value_from = t->value.from,
		.value_to = t->value.to,
		.next_attempt = t->next_attempt,
		.stream_ttl_ms = ttl_ms,
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
	if (!l->held_told)
		log_event(LOG_ERROR, "a key has a wrong type", "queue", l->queue->name, "job", t->job.id, "then",
			  "its result is kept and tried again; delete the key that is in the way", TASK_TRACE(t), NULL);
	l->held_told = true;
	l->nheld++;
	t->next = l->held;
	l->held = t;
	l->held_until_ms = clock_mono_ms() + RETRY_MS;
}

/* The answer came, but what it brought is lost, and the request must not go out again: the job fails. */
static void give_up_held(struct line *l, struct task *t)
{
	char worker[WORKER_ID_MAX + 1];
	struct outcome_facts facts = {.queue = l->queue->name,
				      .worker = worker,
				      .attempts = job_number(&t->job, JOB_ATTEMPT, 0) + 1,
				      .finished_at_ms = clock_real_ms()};
	struct outcome out;

	job_billed(&t->job, &facts.billed);
	line_worker_id(l, t->generation, worker);
	outcome_init(&out);
	out.fault.service = t->job.type->service;
	fault_set(&out.fault, "UnknownOutcomeError", 0,
		  "the answer came, but Redis lost its audio before the result was written, and the job says hold");
	buf_clear(&t->body);
	outcome_result_json(&t->job, &out, &facts, &t->body);
	outcome_dead_json(&t->job, &out.fault, facts.finished_at_ms, (size_t)l->ctx->settings->dead_max_bytes,
			  &t->dead);
	outcome_release(&out);
	t->outcome = "failed";
	t->has_dead = true;
	t->audio = false;
	pthread_mutex_lock(&l->lock);
	line_push_done(l, t);
	pthread_mutex_unlock(&l->lock);
}

/* One reply list of a wrong type must not fill all slots with results that wait for it: these are then only where each result is. */
static void do_without_reply(struct line *l, struct task *t)
{
	if (!l->reply_told)
		log_event(LOG_ERROR, "a reply list has a wrong type", "queue", l->queue->name, "job", t->job.id,
			  "reply", t->job.reply, "then",
			  "too many results wait for it: this one and others are not put there", TASK_TRACE(t), NULL);
	l->reply_told = true;
	t->job.reply[0] = '\0';
	pthread_mutex_lock(&l->lock);
	line_push_done(l, t);
	pthread_mutex_unlock(&l->lock);
}

/* What Redis counts in its stats, this worker's share of it. Only what ended took its time. */
static void count(struct line *l, const struct task *t, enum settled letter)
{
	struct queue_metrics *q = metrics_queue(l->ctx->metrics, l->index);
	bool ended = t->how == SETTLE_RESULT || t->how == SETTLE_DEAD;

	if (letter == SETTLED_DUPLICATE || (letter == SETTLED_FENCED && t->how == SETTLE_RESULT))
		metrics_ended(q, t->job.type, "fenced", -1);
	else if (letter == SETTLED_DONE && *t->outcome)
		metrics_ended(q, t->job.type, t->outcome, ended ? clock_mono_us() - t->started_us : -1);
}

static void after_settled(struct line *l, struct task *t, enum settled letter)
{
	count(l, t, letter);
	switch (letter) {
	case SETTLED_WRONG_REPLY:
		if (l->nheld >= l->nslots / 4) {
			do_without_reply(l, t);
			return;
		}
		hold(l, t);
		return;
	case SETTLED_WRONG_TYPE:
		hold(l, t);
		return;
	case SETTLED_STAGE_GONE: /* Redis forgot the staged audio (rolled back): only doing the job again brings it back */
		log_event(LOG_WARN, "staged audio is gone", "queue", l->queue->name, "job", t->job.id, "then",
			  job_holds(&t->job) ? "the job fails, as it says hold" : "the job is done again",
			  TASK_TRACE(t), NULL);
		if (job_holds(&t->job))
			give_up_held(l, t);
		else
			line_hand_back(l, t);
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
				  "queue", l->queue->name, "job", t->job.id, TASK_TRACE(t), NULL);
		break;
	case SETTLED_DONE:
		if (t->how == SETTLE_LATER)
			l->listener.due(l->listener.keeper, t->number);
		else if (t->how == SETTLE_UNTIL)
			l->listener.due(l->listener.keeper, t->number - line_now_ms(l));
		break;
	}
	line_finish_task(l, t);
}

/* --- The look at what was claimed. --------------------------------------------------------------------------------------- */

/* Adds "command key id..." or "EXISTS result:id..." of all tasks whose id is known. */
static size_t ask_for_ids(struct line *l, struct task *first, struct redis_args *args, bool results)
{
	char name[KEY_MAX];
	size_t n = 0;

	for (struct task *t = first; t; t = t->next) {
		if (!t->parsed || !*t->job.id)
			continue;
		if (results)
			redis_arg(args, name, key_result(&l->keys, t->job.id, name));
		else
			redis_arg_str(args, t->job.id);
		n++;
	}
	return n;
}

/* One that has a result already is not called: single looks, only where the look at all of them has hit. */
static int find_duplicates(struct line *l, struct task *first, struct error *err)
{
	for (struct task *t = first; t; t = t->next) {
		struct reply *reply = NULL;
		char name[KEY_MAX];

		if (!t->parsed || !*t->job.id)
			continue;
		key_result(&l->keys, t->job.id, name);
		if (redis_call(l->a, &reply, err, "EXISTS %s", name))
			return -1;
		if (reply_int(reply, 0) > 0)
			t->how = SETTLE_DUPLICATE;
		reply_free(reply);
	}
	return 0;
}

static void mark_cancelled(struct task *first, const struct reply *scores)
{
	size_t i = 0;

	for (struct task *t = first; t; t = t->next)
		if (t->parsed && *t->job.id)
			t->cancelled = !reply_is_nil(reply_at(scores, i++));
}

/* What must be known of claimed jobs before they begin, in one trip: whether they have results already, and where asked, which of them are
 * cancelled and whether the queue is paused (a wait that was begun before the pause is still served). */
struct look {
	bool cancelled, pause;
};

static int look_at(struct line *l, struct task *first, struct look *look, struct error *err)
{
	struct redis_args args = {0}, more = {0};
	struct reply *results = NULL, *scores = NULL, *paused = NULL;
	bool known, waited = look->pause;
	int rc = 0;

	redis_arg_str(&args, "EXISTS");
	known = ask_for_ids(l, first, &args, true) > 0;
	look->cancelled = look->cancelled && known;
	redis_arg_str(&more, "ZMSCORE");
	redis_arg_str(&more, l->keys.cancelled);
	if (look->cancelled)
		ask_for_ids(l, first, &more, false);
	fault_point("look:before");
	if (known)
		rc = redis_append(l->a, &args, err);
	if (rc == 0 && look->cancelled)
		rc = redis_append(l->a, &more, err);
	if (rc == 0 && look->pause)
		rc = redis_appendf(l->a, err, "EXISTS %s", l->keys.paused);
	if (rc == 0 && waited) { /* a thread wakes while Redis does */
		rc = redis_flush(l->a, err);
		stock_expect(l->stock);
	}
	if (rc == 0 && known)
		rc = redis_receive(l->a, &results, err);
	if (rc == 0 && look->cancelled)
		rc = redis_receive(l->a, &scores, err);
	if (rc == 0 && look->pause)
		rc = redis_receive(l->a, &paused, err);
	fault_point("look:after");
	if (rc == 0 && reply_int(results, 0) > 0)
		rc = find_duplicates(l, first, err);
	if (reply_count(scores) > 0)
		mark_cancelled(first, scores);
	look->pause = reply_int(paused, 0) > 0;
	reply_free(results);
	reply_free(scores);
	reply_free(paused);
	redis_args_release(&args);
	redis_args_release(&more);
	return rc;
}

/* Gives claimed tasks to the threads, but for duplicates. waited: they came through the wait, so nothing is known yet but that they are there. */
void line_hand_out(struct line *l, struct task *first, bool waited, bool any_cancelled)
{
	struct look look = {.cancelled = waited || any_cancelled, .pause = waited};
	struct task *keep = NULL, **tail = &keep;
	struct error err = {0};
	size_t n = 0;

	for (struct task *t = first; t; t = t->next)
		t->how = SETTLE_BACK;
	/* A look that fails only costs the look: the commit refuses a second result. */
	if (l->a && look_at(l, first, &look, &err) && err.code != ERR_REFUSED)
		line_lose_a(l, &err);
	if (look.pause && l->a) {
		line_pause(l, true);
		line_hand_back_all(l, first);
		return;
	}
	while (first) {
		struct task *t = first;

		first = t->next;
		t->next = NULL;
		if (t->how == SETTLE_DUPLICATE) {
			t->outcome = "";
			pthread_mutex_lock(&l->lock);
			line_push_done(l, t);
			pthread_mutex_unlock(&l->lock);
			continue;
		}
		*tail = t;
		tail = &t->next;
		n++;
	}
	stock_put(l->stock, l->index, keep, n);
}

static void after_claim(struct line *l, const struct turn_answer *answer, struct reply *reply, unsigned generation,
			unsigned lease)
{
	struct task *first = NULL, **tail = &first;
	bool asked = l->nclaim > 0;

	for (size_t i = 0; i < l->nclaim; i++) {
		if (i >= answer->nclaimed) {
			line_free_slot(l, l->claim[i]);
			continue;
		}
		*tail = line_begin_task(l, l->claim[i], generation, lease, reply_at(reply, TURN_FIRST_PAYLOAD + i));
		tail = &(*tail)->next;
	}
	l->nclaim = 0;
	if (!asked)
		return;
	line_well(l);
	l->empty = answer->state == CLAIM_EMPTY;
	stock_backlog(l->stock, l->index, answer->state == CLAIM_FULL || answer->state == CLAIM_BYTES);
	if (answer->state == CLAIM_UNLISTED)
		l->listener.unlisted(l->listener.keeper);
	if (answer->state == CLAIM_UNLISTED) {
		pthread_mutex_lock(&l->lock);
		if (generation == l->generation)
			l->listed = false;
		pthread_mutex_unlock(&l->lock);
	}
	if (answer->state == CLAIM_PAUSED)
		line_pause(l, true);
	if (answer->state == CLAIM_REFUSED) {
		if (!l->refused)
			log_event(LOG_WARN, "redis refuses new claims", "queue", l->queue->name, "reason",
				  "out of memory", "then",
				  "results are still written; claims are tried again every second", NULL);
		l->refused_until_ms = clock_mono_ms() + RETRY_MS;
	} else if (l->refused) {
		log_event(LOG_INFO, "redis takes claims again", "queue", l->queue->name, NULL);
	}
	l->refused = answer->state == CLAIM_REFUSED;
	if (first)
		line_hand_out(l, first, false, answer->any_cancelled);
}

static void measure(struct line *l, size_t settled)
{
	int64_t now = clock_mono_us(), us = now - l->last_turn_us;

	if (us > 0)
		l->jobs_per_ms += ((double)settled * 1000.0 / (double)us - l->jobs_per_ms) / 4;
	l->last_turn_us = now;
}

/* Nobody knows how far it came. It is kept, and sent again. */
static void turn_failed(struct line *l, const struct error *err)
{
	if (err->code != ERR_REFUSED) {
		line_lose_a(l, err);
		return;
	}
	line_rest(l, err);
	l->repeated = l->nsent > 0;
	if (l->nclaim > 0) /* it may have been the claims: first without any, so that results come through */
		l->refused_until_ms = clock_mono_ms() + 2LL * RETRY_MS;
	while (l->nclaim > 0)
		line_free_slot_unsure(l, l->claim[--l->nclaim]);
}

/* One trip: settles what is done, claims up to want. On failure the connection is given up and the turn kept for the next. */
void line_take_turn(struct line *l, bool claim, size_t want)
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
	unsigned generation, lease;

	pthread_mutex_lock(&l->lock);
	generation = l->generation;
	lease = l->lease;
	pthread_mutex_unlock(&l->lock);
	line_worker_id(l, generation, worker);
	if (l->nsent == 0)
		choose_settlements(l);
	choose_slots(l, claim, want);
	for (size_t i = 0; i < l->nsent; i++) {
		describe(l, i, worker, generation);
		units_add(&q.billed, &l->sent[i]->billed);
	}
	q.nsettle = l->nsent;
	q.nslots = l->nclaim;
	fault_point("turn:before");
	turn_write(&l->turn, l->a, &l->keys, &q);
	if (redis_run(l->a, &l->turn, &reply, &err) || turn_read(reply, &q, &answer, &err)) {
		reply_free(reply);
		turn_failed(l, &err);
		return;
	}
	fault_point("turn:after");
	measure(l, l->nsent);
	health_answered(&l->ctx->health);
	l->repeated = false;
	l->a_tries = (struct tries){0};
	for (size_t i = 0; i < q.nsettle; i++)
		l->sent[i]->billed = (struct units){0}; /* counted, also where it must be settled once more */
	for (size_t i = 0; i < q.nsettle; i++)
		after_settled(l, l->sent[i], (enum settled)answer.letters[i]);
	l->nsent = 0;
	if (!l->held)
		l->held_told = l->reply_told = false;
	after_claim(l, &answer, reply, generation, lease);
	reply_free(reply);
}
