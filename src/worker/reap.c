/* SPDX-License-Identifier: MIT
 *
 * See reap.h. Slots are looked at in chunks: one trip tells which are full, and only those are read. */
#include "worker/reap.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/fault_point.h"
#include "job/outcome.h"

#define CHUNK_SLOTS 256
#define SLOTS_UNKNOWN (THREADS_MAX + 256U) /* when the hash is gone: every number that any worker may use */
#define CRASH_MEMORY_MS (7LL * 86400 * 1000)
#define LEAVE_TRIES 10

struct reaping {
	struct redis *r;
	struct redis_args *turn;
	bool refused; /* err says what could not be settled, of one job or more */
	const struct keys *k;
	const struct settings *s;
	struct queue_metrics *metrics; /* NULL: nothing is counted */
	const char *queue;
	const char *worker;
	bool own;
	bool alive;	  /* it is not dead after all */
	int64_t until_ms; /* mono */
	size_t jobs;
	struct error *err;
};

/* Which of the slots from..to are full, by one trip. */
static int look_for_full(struct reaping *p, unsigned from, unsigned to, bool full[CHUNK_SLOTS])
{
	char name[KEY_MAX];

	for (unsigned i = from; i < to; i++) {
		key_slot(p->k, p->worker, i, name);
		if (redis_appendf(p->r, p->err, "EXISTS %s", name))
			return -1;
	}
	for (unsigned i = from; i < to; i++) {
		struct reply *reply = NULL;

		if (redis_receive(p->r, &reply, p->err))
			return -1;
		full[i - from] = reply_int(reply, 0) > 0;
		reply_free(reply);
	}
	return 0;
}

/* How often a worker died with this very payload in a slot, this time included. */
static int crashes_so_far(struct reaping *p, const char *hash, int64_t *crashes)
{
	struct reply *reply = NULL;
	char name[KEY_MAX];

	key_crashes(p->k, hash, name);
	if (redis_call(p->r, &reply, p->err, "GET %s", name))
		return -1;
	*crashes = reply_int(reply, 0) + 1;
	reply_free(reply);
	return 0;
}

/* Whether the dead worker had marked that its request for this job went out. */
static int was_sent(struct reaping *p, unsigned slot, const char *hash, bool *sent)
{
	struct reply *reply = NULL;
	char name[KEY_MAX];
	const char *mark;

	key_sent(p->k, p->worker, slot, name);
	if (redis_call(p->r, &reply, p->err, "GET %s", name))
		return -1;
	mark = reply_bytes(reply, NULL);
	*sent = mark && strcmp(mark, hash) == 0;
	reply_free(reply);
	return 0;
}

/* Whether the job must be given up; then *fault says why. */
static int judge(struct reaping *p, unsigned slot, struct job *job, bool readable, const char *hash,
		 struct fault *fault, bool *give_up)
{
	int64_t crashes = 0;
	bool sent = false;

	*give_up = false;
	if (p->own)
		return 0;
	if (readable && job_holds(job) && was_sent(p, slot, hash, &sent))
		return -1;
	if (crashes_so_far(p, hash, &crashes))
		return -1;
	*give_up = sent || crashes >= p->s->max_crashes;
	if (sent)
		fault_set(
			fault, "UnknownOutcomeError", 0,
			"the worker died after the request was sent; whether it was carried out is unknown, and the job says hold");
	else if (*give_up)
		fault_set(fault, "WorkerCrashError", 0, "%lld workers died with this job in hand; max_crashes is %lld",
			  (long long)crashes, (long long)p->s->max_crashes);
	if (*give_up)
		fault->service = job->type ? job->type->service : NULL;
	return 0;
}

static int settle(struct reaping *p, struct settlement *s, const struct job_type *type)
{
	struct turn_request q = {.worker = "",
				 .victim = p->own ? "" : p->worker,
				 .settle = s,
				 .nsettle = 1,
				 .dead_max_jobs = p->s->dead_max_jobs,
				 .dead_max_bytes = p->s->dead_max_bytes};
	struct turn_answer answer = {0};
	struct reply *reply = NULL;
	int rc;

	turn_write(p->turn, p->r, p->k, &q);
	fault_point("reap:before");
	rc = redis_run(p->r, p->turn, &reply, p->err);
	fault_point("reap:after");
	if (rc == 0)
		rc = turn_read(reply, &q, &answer, p->err);
	if (rc == 0) {
		p->alive = answer.state == CLAIM_VICTIM_ALIVE;
		p->jobs += !p->alive && answer.letters[0] == SETTLED_DONE;
		if (p->metrics && !p->alive && answer.letters[0] == SETTLED_DONE)
			metrics_ended(p->metrics, type, s->outcome, -1);
	}
	if (rc == 0 && !p->alive &&
	    (answer.letters[0] == SETTLED_WRONG_TYPE || answer.letters[0] == SETTLED_WRONG_REPLY))
		rc = error_set(p->err, ERR_REFUSED,
			       "job %s must end, and its result or reply key has a wrong type: delete it", s->id);
	reply_free(reply);
	return rc;
}

static int reap_job(struct reaping *p, unsigned slot, const char *payload, size_t len)
{
	struct settlement s = {.how = SETTLE_BACK,
			       .worker = p->worker,
			       .slot = slot,
			       .payload = payload,
			       .payload_len = len,
			       .outcome = "",
			       .reply = "",
			       .number = CRASH_MEMORY_MS};
	struct outcome_facts facts = {.queue = p->queue, .worker = p->worker, .finished_at_ms = clock_real_ms()};
	struct buf body = BUF_INIT(SIZE_MAX / 4), dead = BUF_INIT(SIZE_MAX / 4);
	char hash[SHA1_HEX_LEN + 1];
	struct outcome_value value;
	struct outcome out;
	struct job job;
	bool give_up, readable;
	int rc;

	outcome_init(&out);
	readable =
		job_parse(&job, payload, len, p->queue ? p->queue : "", (size_t)p->s->max_job_bytes, &out.fault) == 0;
	sha1_hex(payload, len, hash);
	rc = judge(p, slot, &job, readable, hash, &out.fault, &give_up);
	if (!p->own)
		s.crash_hash = hash;
	if (rc == 0 && give_up) {
		out.kind = OUTCOME_FAILED;
		facts.attempts = job_number(&job, JOB_ATTEMPT, 0) + 1;
		job_billed(&job, &facts.billed);
		outcome_dead_json(&job, &out.fault, facts.finished_at_ms, (size_t)p->s->dead_max_bytes, &dead);
		s.how = *job.id ? SETTLE_RESULT : SETTLE_DEAD;
		s.outcome = "failed";
		s.crash_hash = NULL;
		s.id = job.id;
		s.reply = job.reply;
		s.number = 1000 * job_number(&job, JOB_RESULT_TTL_S, p->s->result_ttl_s);
		value = outcome_result_json(&job, &out, &facts, &body);
		s.streams = *job.id && job_streams(&job);
		s.value_from = value.from;
		s.value_to = value.to;
		s.body = body.ptr;
		s.body_len = body.len;
		s.dead = dead.ptr;
		s.dead_len = dead.len;
	}
	if (rc == 0)
		rc = settle(p, &s, job.type);
	buf_release(&body);
	buf_release(&dead);
	outcome_release(&out);
	job_release(&job);
	return rc;
}

/* A slot holds one job; two only when a wait was served late, after its connection had broken. */
static int reap_slot(struct reaping *p, unsigned slot)
{
	struct reply *reply = NULL;
	char name[KEY_MAX];
	int rc;

	key_slot(p->k, p->worker, slot, name);
	rc = redis_call(p->r, &reply, p->err, "LRANGE %s 0 -1", name);
	for (size_t i = 0; rc == 0 && !p->alive && i < reply_count(reply); i++) {
		size_t len;
		const char *payload = reply_bytes(reply_at(reply, i), &len);

		if (payload)
			rc = reap_job(p, slot, payload, len);
	}
	reply_free(reply);
	return rc;
}

static bool ends_early(const struct reaping *p)
{
	return p->alive || clock_mono_ms() >= p->until_ms;
}

/* At least one job, so that it comes to an end however late it is. */
static int reap_slots(struct reaping *p, unsigned nslots)
{
	for (unsigned from = 0; from < nslots; from += CHUNK_SLOTS) {
		unsigned to = from + CHUNK_SLOTS < nslots ? from + CHUNK_SLOTS : nslots;
		bool full[CHUNK_SLOTS];

		if (look_for_full(p, from, to, full))
			return -1;
		for (unsigned i = from; i < to; i++) {
			if (!full[i - from])
				continue;
			if (reap_slot(p, i)) {
				if (p->err->code != ERR_REFUSED)
					return -1;
				p->refused = true;
			}
			if (ends_early(p))
				return 0;
		}
	}
	return 0;
}

/* Off the list, if really all slots are empty: *full tells how many are not. */
static int strike_off(struct reaping *p, unsigned nslots, int64_t *full)
{
	struct redis_args args = {0};
	struct reply *reply = NULL;
	char name[KEY_MAX];
	int rc;

	key_worker(p->k, p->worker, name);
	redis_args_script(&args, p->r, SCRIPT_LEAVE);
	redis_arg_int(&args, 3 + 2 * (int64_t)nslots);
	redis_arg_str(&args, p->k->workers);
	redis_arg_str(&args, name);
	redis_arg_str(&args, p->k->gone);
	for (unsigned i = 0; i < nslots; i++)
		redis_arg(&args, name, key_slot(p->k, p->worker, i, name));
	for (unsigned i = 0; i < nslots; i++)
		redis_arg(&args, name, key_sent(p->k, p->worker, i, name));
	redis_arg_str(&args, p->worker);
	redis_arg_str(&args, p->own ? "" : "expired");
	fault_point("leave:before");
	rc = redis_run(p->r, &args, &reply, p->err);
	fault_point("leave:after");
	if (rc == 0)
		*full = reply_int(reply, 0);
	reply_free(reply);
	redis_args_release(&args);
	return rc;
}

static int empty_and_strike(struct reaping *p, unsigned nslots)
{
	int64_t full = 1;

	for (int tries = 0; full > 0 && (tries == 0 || !ends_early(p)) && tries < LEAVE_TRIES; tries++) {
		if (reap_slots(p, nslots))
			return -1;
		if (p->alive)
			return 0;
		if (p->refused)
			return -1;
		if (strike_off(p, nslots, &full))
			return -1;
	}
	return full > 0 && !ends_early(p) ? error_set(p->err, ERR_REFUSED, "slots of %s do not stay empty", p->worker)
					  : 0;
}

int reap_worker(struct redis *r, struct redis_args *turn, const struct keys *k, const struct settings *s,
		struct queue_metrics *metrics, const char *queue, const char *worker, int64_t until_ms, size_t *jobs,
		struct error *err)
{
	struct reaping p = {.r = r,
			    .turn = turn,
			    .k = k,
			    .s = s,
			    .metrics = metrics,
			    .queue = queue,
			    .worker = worker,
			    .until_ms = until_ms,
			    .err = err};
	struct reply *reply = NULL;
	char name[KEY_MAX];
	int64_t nslots;
	int rc;

	*jobs = 0;
	if (strlen(worker) > WORKER_ID_MAX)
		return 0; /* none of ours */
	key_worker(k, worker, name);
	if (redis_call(r, &reply, err, "HGET %s slots", name) && err->code != ERR_REFUSED)
		return -1;
	nslots = reply_int(reply, SLOTS_UNKNOWN);
	reply_free(reply);
	rc = empty_and_strike(&p, nslots > 0 && nslots < SLOTS_UNKNOWN ? (unsigned)nslots : SLOTS_UNKNOWN);
	*jobs = p.jobs;
	return rc;
}

int reap_gone(struct redis *r, struct redis_args *turn, const struct keys *k, const struct settings *s,
	      struct queue_metrics *metrics, const char *queue, const char *worker, int64_t nslots, int64_t until_ms,
	      size_t *jobs, struct error *err)
{
	struct reaping p = {.r = r,
			    .turn = turn,
			    .k = k,
			    .s = s,
			    .metrics = metrics,
			    .queue = queue,
			    .worker = worker,
			    .until_ms = until_ms,
			    .err = err};
	int rc;

	*jobs = 0;
	if (strlen(worker) > WORKER_ID_MAX)
		return 0;
	rc = reap_slots(&p, nslots > 0 && nslots < SLOTS_UNKNOWN ? (unsigned)nslots : SLOTS_UNKNOWN);
	*jobs = p.jobs;
	return p.refused ? -1 : rc;
}

int reap_own(struct redis *r, struct redis_args *turn, const struct keys *k, const struct settings *s,
	     const char *worker, unsigned nslots, struct error *err)
{
	struct reaping p = {
		.r = r, .turn = turn, .k = k, .s = s, .worker = worker, .own = true, .until_ms = INT64_MAX, .err = err};

	return empty_and_strike(&p, nslots);
}
