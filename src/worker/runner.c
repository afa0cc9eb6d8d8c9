/* SPDX-License-Identifier: MIT
 *
 * See runner.h. run_task() is a job's way through a thread, read from top to bottom; every way out of it names a settlement. */
#include "worker/runner.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/fault_point.h"
#include "base/log.h"
#include "exec/attempt.h"
#include "exec/audio.h"
#include "exec/deliver.h"
#include "exec/partial.h"
#include "job/operation.h"

#define STAGE_TTL_MS (24LL * 3600 * 1000)     /* far longer than any commit can be late */
#define SENT_TTL_MS (30LL * 24 * 3600 * 1000) /* far longer than all workers are away */
#define PIECES_TTL_MS                                                                                                  \
	(24LL * 3600 * 1000) /* of the last finished piece of a long text; tries are at most an hour apart */
#define SIDE_RETRY_MS 200

struct runner {
	struct context *ctx;
	struct http *http;
	struct attempt attempt;
	struct audio audio;
	struct deliver deliver;
	struct side side;
	struct partial partial;
	struct task *task;	    /* at hand */
	struct outcome_facts facts; /* of it */
	bool called;		    /* a request was made for it */
	long status;		    /* what the last one's answer said; 0: none came */
	uint64_t random;
	pthread_mutex_t lock; /* guards the next two, which crew_log reads */
	char doing[JOB_ID_MAX + 1];
	int64_t since_ms;
};

struct crew {
	struct context *ctx;
	struct stock *stock;
	unsigned n;
	struct runner runners[];
};

struct crew *crew_new(struct context *ctx, struct stock *stock, struct error *err)
{
	unsigned n = (unsigned)ctx->settings->threads;
	struct crew *c = calloc(1, sizeof *c + n * sizeof *c->runners);

	if (!c) {
		error_set(err, ERR_MEMORY, "out of memory for %u threads", n);
		return NULL;
	}
	*c = (struct crew){.ctx = ctx, .stock = stock};
	for (; c->n < n; c->n++) {
		struct runner *r = &c->runners[c->n];

		r->ctx = ctx;
		r->side.address = &ctx->address;
		attempt_init(&r->attempt, ctx->api);
		audio_init(&r->audio, ctx->settings, &r->side);
		deliver_init(&r->deliver, ctx->settings);
		partial_init(&r->partial, &r->side);
		pthread_mutex_init(&r->lock, NULL);
		r->random = (uint64_t)clock_mono_us() * 2654435761u + c->n;
		r->http = http_new(ctx->http, err);
		if (!r->http) {
			crew_free(c);
			return NULL;
		}
	}
	return c;
}

void crew_free(struct crew *c)
{
	if (!c)
		return;
	for (unsigned i = 0; i < c->n; i++) {
		struct runner *r = &c->runners[i];

		http_free(r->http);
		attempt_release(&r->attempt);
		partial_release(&r->partial);
		side_close(&r->side);
		pthread_mutex_destroy(&r->lock);
	}
	free(c);
}

void crew_abort(struct crew *c)
{
	for (unsigned i = 0; i < c->n; i++)
		http_abort(c->runners[i].http);
}

void crew_close(void *crew)
{
	struct crew *c = crew;

	stock_close(c->stock);
}

void crew_log(struct crew *c)
{
	for (unsigned i = 0; i < c->n; i++) {
		struct runner *r = &c->runners[i];
		char doing[JOB_ID_MAX + 1];
		int64_t since_ms;

		pthread_mutex_lock(&r->lock);
		memcpy(doing, r->doing, sizeof doing);
		since_ms = r->since_ms;
		pthread_mutex_unlock(&r->lock);
		if (*doing)
			log_event(LOG_INFO, "thread", "thread", log_int(i), "state", "busy", "job", doing, "for_ms",
				  log_int(clock_mono_ms() - since_ms), NULL);
		else
			log_event(LOG_INFO, "thread", "thread", log_int(i), "state", "idle", NULL);
	}
}

/* xorshift: only spreads retries in time. */
static double random01(struct runner *r)
{
	r->random ^= r->random << 13;
	r->random ^= r->random >> 7;
	r->random ^= r->random << 17;
	return (double)(r->random >> 11) / 9007199254740992.0;
}

/* --- Settlements. ------------------------------------------------------------------------------------------------------- */

static void put_back(struct task *t)
{
	t->how = SETTLE_BACK;
	t->outcome = "";
}

/* Redis cannot be used by this thread, but perhaps by the line: without a pause the job would come round at once, and again. */
static void put_back_for_redis(struct task *t)
{
	clock_nap(SIDE_RETRY_MS);
	put_back(t);
}

static void sent_so_far(const struct task *t, struct units *out)
{
	job_billed(&t->job, out);
	units_add(out, &t->billed);
}

/* The result as it stands in out. counted_as: the outcome in stats. A failed job is kept in dead too, unless it had expired. */
static void finish(struct task *t, const struct outcome *out, const struct outcome_facts *so_far,
		   const char *counted_as, bool keep_dead)
{
	struct outcome_facts facts = *so_far;
	char worker[WORKER_ID_MAX + 1];

	line_worker_id(t->line, t->generation, worker);
	facts.queue = line_queue(t->line);
	facts.worker = worker;
	facts.finished_at_ms = clock_real_ms();
	sent_so_far(t, &facts.billed);
	t->how = *t->job.id ? SETTLE_RESULT : SETTLE_DEAD;
	t->outcome = counted_as;
	t->body.max = t->dead.max = SIZE_MAX / 4; /* what goes in is bounded by max_job_bytes and max_response_bytes */
	buf_clear(&t->body);
	buf_clear(&t->dead);
	if (*t->job.id)
		t->value = outcome_result_json(&t->job, out, &facts, &t->body);
	t->streams = *t->job.id && job_streams(&t->job);
	t->has_dead = keep_dead;
	if (keep_dead)
		outcome_dead_json(&t->job, &out->fault, facts.finished_at_ms,
				  (size_t)line_settings(t->line)->dead_max_bytes, &t->dead);
}

static void succeed(struct task *t, const struct outcome *out, const struct outcome_facts *facts)
{
	finish(t, out, facts, "succeeded", false);
	if (log_enabled(LOG_DEBUG))
		log_event(LOG_DEBUG, "job succeeded", "queue", line_queue(t->line), "job", t->job.id, "attempts",
			  log_int(facts->attempts), TASK_TRACE(t), NULL);
}

static void fail(struct task *t, struct outcome *out, const struct outcome_facts *facts)
{
	out->kind = OUTCOME_FAILED;
	finish(t, out, facts, "failed", true);
	if (log_enabled(LOG_INFO))
		log_event(LOG_INFO, "job failed", "queue", line_queue(t->line), "job", t->job.id, "type",
			  out->fault.type, "status", log_int(out->fault.status_code), "attempts",
			  log_int(facts->attempts), TASK_TRACE(t), NULL);
}

/* The producer no longer wants it, so it is not kept in dead either. */
static void finish_cancelled(struct runner *r, struct task *t, const struct outcome_facts *facts)
{
	const char *service = t->job.type->service;

	outcome_clear(&r->attempt.out);
	fault_set(&r->attempt.out.fault, "CancelledError", 0, "the job was cancelled");
	r->attempt.out.fault.service = service;
	r->attempt.out.kind = OUTCOME_FAILED;
	finish(t, &r->attempt.out, facts, "cancelled", false);
}

static int64_t tries_allowed(const struct runner *r, const struct task *t)
{
	return attempts_allowed(&t->job, r->ctx->settings, line_queue_settings(t->line));
}

/* A try whose pieces are kept was worth something, so it does not count; unless so much was sent already that they cannot have been: Redis may
 * evict them, or somebody delete them. */
static bool is_free(const struct runner *r, const struct task *t, const struct units *billed)
{
	return r->attempt.kept_pieces > 0 &&
	       billed->n[UNIT_REQUEST] < 2 * (int64_t)api_pieces(&r->attempt.call) + tries_allowed(r, t);
}

static bool may_try_again(const struct runner *r, const struct task *t)
{
	struct units billed;

	sent_so_far(t, &billed);
	if (r->attempt.out.tries_max > 0 && r->facts.attempts >= r->attempt.out.tries_max)
		return false;
	return r->facts.attempts < tries_allowed(r, t) || is_free(r, t, &billed);
}

static void retry(struct runner *r, struct task *t)
{
	int64_t attempts = r->facts.attempts;
	struct units billed;

	sent_so_far(t, &billed);
	if (is_free(r, t, &billed))
		attempts--;
	t->how = SETTLE_LATER;
	t->outcome = "retried";
	t->streams = job_streams(&t->job);
	t->next_attempt = attempts + 1;
	t->number = outcome_retry_delay_ms(attempts > 0 ? attempts : 1, r->attempt.out.retry_after_ms, random01(r));
	t->body.max = SIZE_MAX / 4;
	buf_clear(&t->body);
	job_with_attempt(&t->job, attempts, &billed, &t->body);
	log_event(LOG_DEBUG, "job tried again later", "queue", line_queue(t->line), "job", t->job.id, "attempts",
		  log_int(attempts), "in_ms", log_int(t->number), TASK_TRACE(t), NULL);
}

/* --- The steps. --------------------------------------------------------------------------------------------------------- */

/* A try that finished a piece was not counted, but left what it was billed. */
static bool was_started(const struct task *t, const struct outcome_facts *facts)
{
	static const struct units none;
	struct units billed;

	job_billed(&t->job, &billed);
	return facts->attempts > 0 || memcmp(&billed, &none, sizeof none) != 0;
}

/* Jobs that are not to be called at all: bad, too early, too late. True: t is settled. */
static bool settled_before_call(struct runner *r, struct task *t, struct outcome_facts *facts)
{
	int64_t now = line_now_ms(t->line);

	if (t->bad) {
		struct fault swap = r->attempt.out.fault;

		r->attempt.out.fault = t->fault;
		t->fault = swap;
		fail(t, &r->attempt.out, facts);
		return true;
	}
	if (t->cancelled) {
		finish_cancelled(r, t, facts);
		return true;
	}
	/* Only what was not started expires: a job between two tries has been. */
	if (job_has(&t->job, JOB_EXPIRES_AT_MS) && now >= t->job.number[JOB_EXPIRES_AT_MS] && !was_started(t, facts)) {
		r->attempt.out.fault.service = t->job.type->service;
		fault_set(&r->attempt.out.fault, "ExpiredError", 0, "the job was not started by expires_at_ms %lld",
			  (long long)t->job.number[JOB_EXPIRES_AT_MS]);
		r->attempt.out.kind = OUTCOME_FAILED;
		finish(t, &r->attempt.out, facts, "expired", false);
		return true;
	}
	if (job_has(&t->job, JOB_NOT_BEFORE_MS) && now < t->job.number[JOB_NOT_BEFORE_MS]) {
		t->how = SETTLE_UNTIL;
		t->outcome = "";
		t->number = t->job.number[JOB_NOT_BEFORE_MS];
		return true;
	}
	return false;
}

/* Marks in Redis that a request is about to go out which must not go out twice. 0, or -1: Redis cannot be used. */
static int mark_sent(struct runner *r, struct task *t)
{
	char worker[WORKER_ID_MAX + 1], key[KEY_MAX], hash[SHA1_HEX_LEN + 1];
	struct error err = {0};

	line_worker_id(t->line, t->generation, worker);
	key_sent(line_keys(t->line), worker, t->slot, key);
	sha1_hex(t->payload, t->payload_len, hash);
	fault_point("mark:before");
	if (side_open(&r->side, &err) == 0 &&
	    redis_call(r->side.r, NULL, &err, "SET %s %s PX %lld", key, hash, (long long)SENT_TTL_MS) == 0) {
		fault_point("mark:after");
		return 0;
	}
	side_close(&r->side);
	return -1;
}

/* The request did not go out after all: the mark must not speak against the job. */
static void unmark_sent(struct runner *r, struct task *t)
{
	char worker[WORKER_ID_MAX + 1], key[KEY_MAX];
	struct error err = {0};

	line_worker_id(t->line, t->generation, worker);
	key_sent(line_keys(t->line), worker, t->slot, key);
	fault_point("unmark:before");
	if (side_open(&r->side, &err) || redis_call(r->side.r, NULL, &err, "DEL %s", key))
		side_close(&r->side);
}

/* Waits for Redis as long as it takes: this answer has been paid for. False: the service ends. */
static bool stage(struct runner *r, struct task *t)
{
	char worker[WORKER_ID_MAX + 1], key[KEY_MAX];
	struct error err = {0};
	bool told = false;

	line_worker_id(t->line, t->generation, worker);
	key_stage(line_keys(t->line), worker, t->slot, key);
	while (audio_stage(&r->side, key, &r->attempt.out.audio, STAGE_TTL_MS, &err)) {
		if (r->ctx->phase >= PHASE_LET_GO)
			return false;
		/* That Redis is lost the line tells; a refusal of this very key only we see. */
		if (!told && err.code == ERR_REFUSED) {
			log_event(LOG_ERROR, "audio refused", "queue", line_queue(t->line), "job", t->job.id, "reason",
				  err.msg, "then", "it waits until redis takes it", TASK_TRACE(t), NULL);
			told = true;
		}
		clock_nap(SIDE_RETRY_MS);
	}
	if (told)
		log_event(LOG_INFO, "audio taken", "queue", line_queue(t->line), "job", t->job.id, TASK_TRACE(t), NULL);
	return true;
}

/* Synthesized audio goes where the job wants it. False: it could not, because the service ends. */
static bool deliver_audio(struct runner *r, struct task *t)
{
	char key[KEY_MAX];

	if (r->attempt.out.audio.len == 0 || !*t->job.id)
		return true;
	if (strcmp(job_string(&t->job, JOB_OUTPUT, "key"), "key") == 0) {
		if (!stage(r, t))
			return false;
		t->audio = true;
		deliver_note(&r->attempt.out, "audio_key", key, key_audio(line_keys(t->line), t->job.id, key));
		return true;
	}
	deliver(&r->deliver, &r->attempt.out);
	return true;
}

/* The service ends before Redis took the audio: only doing the job again would bring it back. */
static void undelivered(struct runner *r, struct task *t, const struct outcome_facts *facts)
{
	if (!job_holds(&t->job)) {
		put_back(t);
		return;
	}
	fault_set(&r->attempt.out.fault, "UnknownOutcomeError", 0,
		  "the answer came, but Redis did not take its audio before the stop, and the job says hold");
	fail(t, &r->attempt.out, facts);
}

/* --- Calls and pieces, for attempt_make(). ------------------------------------------------------------------------------ */

static void count_billed(struct runner *r, struct task *t, const struct units *sent)
{
	units_add(&t->billed, sent);
	for (int i = 0; i < UNITS; i++)
		if (sent->n[i] > 0)
			r->ctx->billed[t->job.type->kind][i] += sent->n[i];
}

static void write_piece(void *runner, const char *json, size_t n)
{
	struct runner *r = runner;

	partial_add(&r->partial, json, n);
}

static int64_t flush_pieces(void *runner)
{
	struct runner *r = runner;

	return partial_flush(&r->partial);
}

/* 0, or -1: the call must not be made now. */
static int begin_stream(struct runner *r, struct task *t, struct call *call)
{
	char worker[WORKER_ID_MAX + 1];
	struct partial_job job = {.keys = line_keys(t->line),
				  .id = t->job.id,
				  .worker = worker,
				  .slot = t->slot,
				  .payload = t->payload,
				  .payload_len = t->payload_len,
				  .attempt = job_number(&t->job, JOB_ATTEMPT, 0) + 1,
				  .ttl_ms =
					  1000 * job_number(&t->job, JOB_RESULT_TTL_S, r->ctx->settings->result_ttl_s)};
	struct error err = {0};

	line_worker_id(t->line, t->generation, worker);
	switch (partial_begin(&r->partial, &job, &err)) {
	case PARTIAL_READY:
		break;
	case PARTIAL_REFUSED: /* its result will be held, and tells of it again */
		log_event(LOG_WARN, "stream not written", "queue", line_queue(t->line), "job", t->job.id, "reason",
			  err.msg, TASK_TRACE(t), NULL);
		break;
	case PARTIAL_NO_REDIS:
		clock_nap(SIDE_RETRY_MS);
		return -1;
	case PARTIAL_TAKEN:
		return -1;
	}
	call->stream.piece = write_piece;
	call->stream.flush = flush_pieces;
	call->stream.ctx = r;
	return 0;
}

/* What was answered is told before its end is, however long Redis takes. What was cut off is told in vain. */
static void end_stream(struct runner *r, struct call *call, const struct http_response *resp)
{
	if (resp->streamed && resp->end == HTTP_ANSWERED)
		stream_end(&call->stream);
	while (!partial_finish(&r->partial) && resp->end != HTTP_ABORTED && r->ctx->phase < PHASE_LET_GO)
		clock_nap(SIDE_RETRY_MS);
}

/* Whether somebody died with this very job in hand, so that its request may have gone out before. */
static bool was_crashed(struct runner *r, const struct task *t)
{
	struct reply *reply = NULL;
	struct error err = {0};
	char key[KEY_MAX], hash[SHA1_HEX_LEN + 1];
	bool crashed = false;

	sha1_hex(t->payload, t->payload_len, hash);
	key_crashes(line_keys(t->line), hash, key);
	if (side_open(&r->side, &err) == 0 && redis_call(r->side.r, &reply, &err, "EXISTS %s", key) == 0)
		crashed = reply_int(reply, 0) > 0;
	else if (err.code != ERR_REFUSED)
		side_close(&r->side);
	reply_free(reply);
	return crashed;
}

/* A delete that finds nothing may have been done by an earlier request of this very job. */
static bool was_sent_before(struct runner *r, struct task *t, const struct http_response *resp)
{
	const struct operation *op = operation_of(&t->job);
	struct units billed;

	if (!op || op->repeat != REPEAT_DELETE || resp->status != 404)
		return false;
	job_billed(&t->job, &billed);
	return billed.n[UNIT_REQUEST] > 0 || was_crashed(r, t);
}

static enum attempt_end make_call(void *ctx, struct call *call, struct http_response *resp)
{
	struct runner *r = ctx;
	struct task *t = r->task;
	bool holds = job_holds(&t->job), audio_lost;

	if (t->cancelled)
		return ATTEMPT_CANCELLED;
	if (r->ctx->phase >= PHASE_DRAIN)
		return ATTEMPT_BACK;
	call->request.timeout_ms = attempt_timeout_ms(&t->job, r->ctx->settings, line_queue_settings(t->line));
	if (call->stream.wanted && *t->job.id && begin_stream(r, t, call))
		return ATTEMPT_BACK;
	if (holds && mark_sent(r, t)) {
		clock_nap(SIDE_RETRY_MS);
		return ATTEMPT_BACK;
	}
	/* Where the lease may have run out the job may be running elsewhere, and a mark made after that was not seen by whoever took it. The phase
	 * is looked at after the handle was made fit again, so that an abort of all calls is not missed. */
	if (!line_begin_call(t->line, t, r->http) || r->ctx->phase >= PHASE_ABORT) {
		if (holds)
			unmark_sent(r, t);
		return ATTEMPT_BACK;
	}
	if (r->facts.started_at_ms == 0)
		r->facts.started_at_ms = clock_real_ms();
	r->facts.attempts = job_number(&t->job, JOB_ATTEMPT, 0) + 1;
	fault_point("call:before");
	http_perform(r->http, &call->request, resp);
	fault_point("call:after");
	call->repeated = was_sent_before(r, t, resp);
	if (resp->sent)
		count_billed(r, t, &call->units);
	if (call->stream.wanted)
		end_stream(r, call, resp);
	/* Redis was lost in the middle of the audio: the request never went out whole, and that is no try of the job's. */
	audio_lost = resp->end == HTTP_BODY_FAILED && r->audio.lost;
	if (holds && (!resp->sent || audio_lost))
		unmark_sent(r, t);
	r->facts.api_ms += resp->elapsed_ms;
	metrics_called(r->ctx->metrics, t->job.type, resp->elapsed_ms);
	r->called = true;
	r->status = resp->status;
	if (resp->end == HTTP_ABORTED && t->cancelled)
		return ATTEMPT_CANCELLED;
	if (audio_lost || (resp->end == HTTP_ABORTED && !(holds && resp->sent)))
		return ATTEMPT_BACK;
	return ATTEMPT_JUDGED;
}

static enum piece_found get_piece(void *ctx, const char *name, struct buf *out)
{
	struct runner *r = ctx;
	struct reply *reply = NULL;
	struct error err = {0};
	char key[KEY_MAX];
	const char *bytes;
	size_t n = 0;

	if (!*r->task->job.id)
		return PIECE_UNKNOWN;
	key_pieces(line_keys(r->task->line), r->task->job.id, key);
	fault_point("piece:look");
	if (side_open(&r->side, &err) || redis_call(r->side.r, &reply, &err, "HGET %s %s", key, name)) {
		if (err.code == ERR_REFUSED)
			return PIECE_UNKNOWN;
		side_close(&r->side);
		clock_nap(SIDE_RETRY_MS);
		return PIECE_NO_STORE;
	}
	bytes = reply_bytes(reply, &n);
	buf_add(out, bytes ? bytes : "", n);
	reply_free(reply);
	return n > 0 && !out->failed ? PIECE_FOUND : PIECE_UNKNOWN;
}

static int store_piece(struct runner *r, const char *key, const char *name, const struct buf *piece, struct error *err)
{
	struct redis_args args = {0};
	struct reply *reply = NULL;
	int rc = side_open(&r->side, err);

	if (rc == 0) {
		redis_args_script(&args, r->side.r, SCRIPT_PIECE);
		redis_arg_int(&args, 1);
		redis_arg_str(&args, key);
		redis_arg_str(&args, name);
		redis_arg(&args, piece->ptr, piece->len);
		redis_arg_int(&args, PIECES_TTL_MS);
		fault_point("piece:before");
		rc = redis_run(r->side.r, &args, &reply, err);
		fault_point("piece:after");
	}
	reply_free(reply);
	redis_args_release(&args);
	if (rc && err->code != ERR_REFUSED)
		side_close(&r->side);
	return rc;
}

/* Waits for Redis as long as it takes: this piece has been paid for. */
static enum piece_put put_piece(void *ctx, const char *name, const struct buf *piece)
{
	struct runner *r = ctx;
	struct task *t = r->task;
	enum piece_put put = PIECE_KEPT;
	struct error err = {0};
	char key[KEY_MAX];

	if (!*t->job.id)
		return PIECE_NOT_KEPT;
	key_pieces(line_keys(t->line), t->job.id, key);
	while (store_piece(r, key, name, piece, &err)) {
		/* This very key is of a wrong type: what is in memory still makes a whole. */
		if (err.code == ERR_REFUSED) {
			log_event(LOG_WARN, "piece not kept", "queue", line_queue(t->line), "job", t->job.id, "reason",
				  err.msg, TASK_TRACE(t), NULL);
			put = PIECE_NOT_KEPT;
			break;
		}
		if (r->ctx->phase >= PHASE_LET_GO)
			return PIECE_STOP;
		clock_nap(SIDE_RETRY_MS);
	}
	if (job_holds(&t->job) && put == PIECE_KEPT) /* whatever happens now, what was sent is known to be done */
		unmark_sent(r, t);
	return put;
}

/* --- The way of a task. ------------------------------------------------------------------------------------------------- */

static void settle_judged(struct runner *r, struct task *t)
{
	struct outcome *out = &r->attempt.out;

	if (r->called && out->kind != OUTCOME_SUCCEEDED)
		metrics_refused(r->ctx->metrics, t->job.type, r->status);
	if (out->tokens > 0)
		count_billed(r, t, &(const struct units){.n = {[UNIT_TOKEN] = out->tokens}});
	if (out->kind == OUTCOME_RETRY && t->cancelled)
		finish_cancelled(r, t, &r->facts);
	else if (out->kind == OUTCOME_RETRY && may_try_again(r, t))
		retry(r, t);
	else if (out->kind == OUTCOME_SUCCEEDED && !deliver_audio(r, t)) /* which may also make it fail */
		undelivered(r, t, &r->facts);
	else if (out->kind == OUTCOME_SUCCEEDED)
		succeed(t, out, &r->facts);
	else
		fail(t, out, &r->facts);
}

static void attempt_task(struct runner *r, struct task *t)
{
	const struct attempt_host host = {.call = make_call, .get_piece = get_piece, .put_piece = put_piece, .ctx = r};

	bool pieces = api_pieces(&r->attempt.call) > 0;

	if (pieces) { /* a try also where all of them are kept from earlier ones */
		r->facts.attempts++;
		r->facts.started_at_ms = clock_real_ms();
	}
	switch (attempt_make(&r->attempt, &t->job, &host)) {
	case ATTEMPT_BACK:
		put_back(t);
		break;
	case ATTEMPT_CANCELLED:
		finish_cancelled(r, t, &r->facts);
		break;
	case ATTEMPT_JUDGED:
		settle_judged(r, t);
		break;
	}
	t->forget_pieces = pieces && !t->has_dead; /* else they serve when it is tried again */
}

/* A download is a part of the try: it counts, can be cancelled and cut off as the call can. True: the audio is there; else t is settled. */
static bool fetch_audio(struct runner *r, struct task *t)
{
	const int64_t began_ms = clock_real_ms();
	enum audio_opened opened;
	bool tried;

	if (!line_begin_call(t->line, t, r->http) || r->ctx->phase >= PHASE_ABORT) {
		put_back(t);
		return false;
	}
	opened = audio_fetch(&r->audio, r->http,
			     attempt_timeout_ms(&t->job, r->ctx->settings, line_queue_settings(t->line)), &t->job,
			     &r->attempt.call, &r->attempt.out, &tried);
	if (opened == AUDIO_ABORTED && !t->cancelled) {
		put_back(t);
		return false;
	}
	if (tried) {
		r->facts.attempts = job_number(&t->job, JOB_ATTEMPT, 0) + 1;
		r->facts.started_at_ms = began_ms;
	}
	if (opened == AUDIO_READY && !t->cancelled)
		return true;
	if (t->cancelled)
		finish_cancelled(r, t, &r->facts);
	else
		settle_judged(r, t);
	return false;
}

/* True: the job's audio is there; else t is settled. */
static bool open_audio(struct runner *r, struct task *t)
{
	struct error err = {0};

	switch (audio_open(&r->audio, line_keys(t->line), &t->job, &r->attempt.call, &r->attempt.out, &err)) {
	case AUDIO_READY:
		return true;
	case AUDIO_ELSEWHERE:
		return fetch_audio(r, t);
	case AUDIO_NO_REDIS:
		put_back_for_redis(t);
		return false;
	default:
		fail(t, &r->attempt.out, &r->facts);
		return false;
	}
}

/* How long a job stood in the queue is known where its producer said when it came. */
static void count_wait(struct runner *r, const struct task *t)
{
	int64_t since_ms = job_number(&t->job, JOB_ENQUEUED_AT_MS, 0);
	int64_t not_before_ms = job_number(&t->job, JOB_NOT_BEFORE_MS, 0);

	if (job_has(&t->job, JOB_ENQUEUED_AT_MS) && !was_started(t, &r->facts))
		metrics_waited(metrics_queue(r->ctx->metrics, line_index(t->line)),
			       line_now_ms(t->line) - (not_before_ms > since_ms ? not_before_ms : since_ms));
}

static void run_task(struct runner *r, struct task *t)
{
	struct outcome *out = &r->attempt.out;

	task_parse(t);
	outcome_clear(out);
	r->task = t;
	r->facts = (struct outcome_facts){.attempts = job_number(&t->job, JOB_ATTEMPT, 0)};
	r->attempt.kept_pieces = 0;
	r->called = false;
	if (r->ctx->phase >= PHASE_DRAIN) {
		put_back(t);
		return;
	}
	if (settled_before_call(r, t, &r->facts))
		return;
	count_wait(r, t);
	if (api_build(r->ctx->api, &t->job, &r->attempt.call, out) || deliver_open(&r->deliver, &t->job, out)) {
		fail(t, out, &r->facts);
		return;
	}
	if (!r->attempt.call.wants_audio || open_audio(r, t))
		attempt_task(r, t);
	if (r->attempt.call.wants_audio)
		audio_close(&r->audio);
	deliver_close(&r->deliver);
}

static void tell(struct runner *r, const char *id)
{
	size_t n = strlen(id);

	pthread_mutex_lock(&r->lock);
	memcpy(r->doing, id, n + 1);
	r->since_ms = n > 0 ? clock_mono_ms() : 0;
	pthread_mutex_unlock(&r->lock);
}

void crew_run(void *crew, unsigned thread_id)
{
	struct crew *c = crew;
	struct runner *r = &c->runners[thread_id];
	struct task *t;

	while ((t = stock_take(c->stock))) {
		size_t queue = line_index(t->line);

		task_parse(t);
		tell(r, *t->job.id ? t->job.id : "?");
		run_task(r, t);
		tell(r, "");
		stock_finished(c->stock, queue, t);
		line_done(t->line, t);
	}
}
