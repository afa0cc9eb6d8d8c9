/* SPDX-License-Identifier: MIT
 *
 * A producer's side of Redis: push jobs, wait for results, carry audio. See include/adwuma.h.
 *
 * Design: one connection, made at the first use and made anew after it broke. Jobs are pushed by LPUSH, many in a round
 * trip, and what was not acknowledged when a connection broke is pushed again: a worker drops the second job of an id.
 * A result is awaited in pieces of at most WAIT_PIECE_MS with a read timeout a little above, so a server that fell
 * silent is noticed, and the wait goes on over a new connection. Where the waiting command is refused (it counts as a
 * write, and Redis may be full) a plain look stands in.
 *
 * Ownership: the handle owns its connection and buffers. Threads: one at a time. No output, no global state; SIGPIPE is
 * kept from the host (lib/sigpipe.h). Every public function is a frame around its inner twin, in which errors are
 * struct error. */
#include "lib/client.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "lib/draft.h"
#include "lib/sigpipe.h"
#include "queue/keys.h"
#include "redis/redis.h"

#define TRIP_JOBS                                                                                                      \
	1000 /* jobs in one round trip: their replies fit a socket's buffer, so writing never waits for reading */
#define TRIP_BYTES (1024 * 1024) /* of payloads in one round trip, beyond the first */
#define SUBMIT_RETRY_MS 10000	 /* how long a broken connection is made anew before a submit gives up */
#define WAIT_PIECE_MS 5000	 /* one blocking command; a dead peer is noticed soon after */
#define WAIT_MARGIN_MS 2000	 /* the read timeout beyond it */
#define WAIT_SLICE_MS 50	 /* how long one of several queues is waited on before the next one has its turn */
#define WAIT_MAX_MS (366LL * 86400 * 1000) /* no result lives longer */
#define PAUSE_FIRST_MS 50		   /* before the first new connection; doubled each time */
#define PAUSE_MAX_MS 1000
#define PIECE_BYTES (1024 * 1024)	      /* of audio in one reply: the whole is held once only */
#define AUDIO_MAX_BYTES (512UL * 1024 * 1024) /* Redis's own bound of a string */
#define TTL_MAX_S (366LL * 86400)
#define SCRATCH_KEEP_BYTES (64 * 1024)

struct adwuma {
	struct redis_address address;
	char prefix[KEY_PREFIX_MAX + 1];
	struct redis *redis; /* NULL: not connected */
	bool was_connected;  /* once: then a break is waited out */
	struct buf scratch;  /* the job that is being drafted; its bound is max_job_bytes */
};

/* --- Errors, and getting a connection. ---------------------------------------------------------------------------- */

static enum adwuma_code code_of(const struct error *e)
{
	static const enum adwuma_code codes[] = {
		[ERR_NONE] = ADWUMA_OK,
		[ERR_USAGE] = ADWUMA_INVALID,
		[ERR_CONFIG] = ADWUMA_CONFIG,
		[ERR_INVALID] = ADWUMA_INVALID,
		[ERR_MEMORY] = ADWUMA_NO_MEMORY,
		[ERR_LINK] = ADWUMA_UNREACHABLE,
		[ERR_REFUSED] = ADWUMA_UNREACHABLE,
		[ERR_TIMEOUT] = ADWUMA_TIMEOUT,
		[ERR_SYSTEM] = ADWUMA_UNREACHABLE,
	};

	return codes[e->code];
}

static int tell(struct adwuma_error *out, const struct error *e)
{
	if (out) {
		out->code = code_of(e);
		snprintf(out->message, sizeof out->message, "%s", e->msg);
	}
	return -1;
}

static bool is_link(const struct error *e)
{
	return e->code == ERR_LINK;
}

static void disconnect(struct adwuma *c)
{
	redis_close(c->redis);
	c->redis = NULL;
}

/* Says where, closes what is finished. Returns -1. */
static int redis_failed(struct adwuma *c, struct error *e)
{
	char where[256];

	if (e->code != ERR_LINK && e->code != ERR_REFUSED)
		return -1;
	disconnect(c);
	redis_address_show(&c->address, where, sizeof where);
	return error_prefix(e, "Redis at %s", where);
}

static int connect_if_needed(struct adwuma *c, struct error *e)
{
	if (c->redis)
		return 0;
	c->redis = redis_open(&c->address, false, e);
	if (!c->redis)
		return redis_failed(c, e);
	c->was_connected = true;
	return 0;
}

/* Waits before try number `tries` (from 0), with jitter so that many producers do not come back at once; never beyond
 * left_ms. */
static void pause_before(unsigned tries, int64_t left_ms)
{
	int64_t ms = tries < 5 ? PAUSE_FIRST_MS << tries : PAUSE_MAX_MS;
	struct timespec t;

	ms += clock_mono_us() % (ms / 2 + 1);
	if (ms > left_ms)
		ms = left_ms;
	t = (struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};
	(void)nanosleep(&t, NULL);
}

/* --- Opening and closing. ----------------------------------------------------------------------------------------- */

static int check_redis_url(const struct settings *s, const char *url, struct error *err)
{
	struct redis_address a = {0};
	int rc = redis_address_parse(&a, url, s->redis_username, s->redis_password, err);

	redis_address_release(&a);
	return rc;
}

const struct settings_rule client_rules[] = {{"redis_url", check_redis_url}, {0}};

static const char *either(const char *first, const char *second)
{
	return first ? first : second;
}

static struct adwuma *open_with(const struct adwuma_options *o, const struct settings *s, struct error *e)
{
	const char *prefix = either(o->key_prefix, s->key_prefix);
	struct adwuma *c;

	if (strlen(prefix) > KEY_PREFIX_MAX || !draft_is_id(prefix, strlen(prefix)) || o->max_job_bytes < 0) {
		error_set(e, ERR_CONFIG,
			  "key_prefix must be 1 to %d characters of A-Z a-z 0-9 . _ : -, max_job_bytes not negative",
			  KEY_PREFIX_MAX);
		return NULL;
	}
	c = calloc(1, sizeof *c);
	if (!c) {
		error_set(e, ERR_MEMORY, "out of memory");
		return NULL;
	}
	if (redis_address_parse(&c->address, either(o->redis_url, s->redis_url),
				either(o->redis_username, s->redis_username),
				either(o->redis_password, s->redis_password), e)) {
		error_prefix(e, "redis_url");
		adwuma_close(c);
		return NULL;
	}
	memcpy(c->prefix, prefix, strlen(prefix) + 1);
	c->scratch = BUF_INIT((size_t)(o->max_job_bytes ? o->max_job_bytes : s->max_job_bytes));
	return c;
}

adwuma *client_open(const struct settings *settings, struct adwuma_error *err)
{
	struct adwuma_options none = {0};
	struct error e = {0};
	struct adwuma *c = open_with(&none, settings, &e);

	if (!c)
		tell(err, &e);
	return c;
}

adwuma *adwuma_open(const struct adwuma_options *options, struct adwuma_error *err)
{
	struct adwuma_options none = {0};
	struct settings settings = {0};
	struct error e = {0};
	struct adwuma *c = NULL;
	char *no_flags[] = {NULL};
	int nflags = 0;

	if (settings_load(&settings, &nflags, no_flags, client_rules, NULL, &e) == 0)
		c = open_with(options ? options : &none, &settings, &e);
	settings_release(&settings);
	if (!c)
		tell(err, &e);
	return c;
}

void adwuma_close(adwuma *client)
{
	if (!client)
		return;
	disconnect(client);
	redis_address_release(&client->address);
	buf_release(&client->scratch);
	free(client);
}

void adwuma_free(void *p)
{
	free(p);
}

const char *adwuma_version(void)
{
	return ADWUMA_VERSION;
}

/* --- Submitting. -------------------------------------------------------------------------------------------------- */

/* Drafts and appends one job. Returns 1 when it is on its way, 0 when it is bad (its error says why), -1 when the
 * connection failed. */
static int append_job(struct adwuma *c, struct adwuma_job *job, struct error *e)
{
	struct draft draft;
	struct keys keys;
	struct error bad = {0};

	if (draft_make(&draft, job->queue, job->json, job->len, job->id, &c->scratch, &bad)) {
		job->id[0] = '\0';
		tell(&job->error, &bad);
		return 0;
	}
	memcpy(job->id, draft.id, sizeof job->id);
	keys_init(&keys, c->prefix, draft.queue);
	return redis_appendf(c->redis, e, "LPUSH %s %b", keys.ready, draft.payload.ptr, draft.payload.len) ? -1 : 1;
}

/* Reads the reply to one job. */
static int receive_job(struct adwuma *c, struct adwuma_job *job, struct error *e)
{
	struct reply *reply = NULL;
	char where[256];

	if (redis_receive(c->redis, &reply, e))
		return -1;
	job->error = (struct adwuma_error){0};
	if (reply_error(reply)) {
		redis_address_show(&c->address, where, sizeof where);
		job->error.code = ADWUMA_UNREACHABLE;
		snprintf(job->error.message, sizeof job->error.message, "Redis at %s: %s", where, reply_error(reply));
	}
	reply_free(reply);
	return 0;
}

/* One round trip for some of the jobs. Returns how many were dealt with, or -1: then those that were not acknowledged
 * are as before. */
static int one_trip(struct adwuma *c, struct adwuma_job *jobs, size_t njobs, struct error *e)
{
	bool sent[TRIP_JOBS];
	size_t n = 0, bytes = 0;

	if (connect_if_needed(c, e))
		return -1;
	for (; n < njobs && n < TRIP_JOBS && (n == 0 || bytes + jobs[n].len < TRIP_BYTES); n++) {
		int rc = jobs[n].error.code == ADWUMA_OK ? 0 : append_job(c, &jobs[n], e);

		if (rc < 0)
			return redis_failed(c, e);
		sent[n] = rc > 0;
		bytes += jobs[n].len;
	}
	for (size_t i = 0; i < n; i++)
		if (sent[i] && receive_job(c, &jobs[i], e))
			return redis_failed(c, e);
	return (int)n;
}

static int submit_all(struct adwuma *c, struct adwuma_job *jobs, size_t njobs, struct error *e)
{
	int64_t give_up_at = 0;
	unsigned tries = 0;

	for (size_t done = 0; done < njobs;) {
		int n = one_trip(c, jobs + done, njobs - done, e);
		int64_t left;

		if (n >= 0) {
			done += (size_t)n;
			give_up_at = 0;
			tries = 0;
			continue;
		}
		if (give_up_at == 0)
			give_up_at = clock_mono_ms() + SUBMIT_RETRY_MS;
		left = give_up_at - clock_mono_ms();
		if (!is_link(e) || !c->was_connected || left <= 0)
			return -1;
		pause_before(tries++, left);
	}
	return 0;
}

int adwuma_submit_many(adwuma *client, struct adwuma_job *jobs, size_t njobs, struct adwuma_error *err)
{
	struct sigpipe sigpipe;
	struct error e = {0};

	for (size_t i = 0; i < njobs; i++) {
		jobs[i].id[0] = '\0';
		jobs[i].error.code = ADWUMA_UNREACHABLE;
		snprintf(jobs[i].error.message, sizeof jobs[i].error.message, "not submitted");
	}
	sigpipe_block(&sigpipe);
	if (submit_all(client, jobs, njobs, &e))
		tell(err, &e);
	else
		e.code = ERR_NONE;
	sigpipe_restore(&sigpipe);
	buf_trim(&client->scratch, SCRATCH_KEEP_BYTES);
	if (e.code != ERR_NONE)
		return -1;
	for (size_t i = 0; i < njobs; i++) {
		if (jobs[i].error.code == ADWUMA_OK)
			continue;
		if (err)
			*err = jobs[i].error;
		return -1;
	}
	return 0;
}

int adwuma_submit(adwuma *client, const char *queue, const char *job_json, size_t job_len, char id[ADWUMA_ID_MAX + 1],
		  struct adwuma_error *err)
{
	struct adwuma_job job = {.queue = queue, .json = job_json, .len = job_len};

	if (adwuma_submit_many(client, &job, 1, err))
		return -1;
	memcpy(id, job.id, sizeof job.id);
	return 0;
}

/* --- Waiting. ----------------------------------------------------------------------------------------------------- */

/* One command for the result: blocking for wait_ms, or a look where that is 0. *json stays NULL where there is none. */
static int ask(struct adwuma *c, const char *queue, const char *id, int64_t wait_ms, char **json, struct error *e)
{
	struct reply *reply = NULL;
	struct keys keys;
	char key[KEY_MAX];
	size_t len;
	int rc;

	keys_init(&keys, c->prefix, queue);
	key_result(&keys, id, key);
	if (connect_if_needed(c, e))
		return -1;
	if (wait_ms == 0) {
		rc = redis_set_timeout(c->redis, REDIS_REPLY_MS, e) ||
		     redis_call(c->redis, &reply, e, "LINDEX %s 0", key);
	} else {
		char seconds[32];

		snprintf(seconds, sizeof seconds, "%lld.%03lld", (long long)(wait_ms / 1000),
			 (long long)(wait_ms % 1000));
		rc = redis_set_timeout(c->redis, wait_ms + WAIT_MARGIN_MS, e) ||
		     redis_call(c->redis, &reply, e, "BLMOVE %s %s LEFT LEFT %s", key, key, seconds);
	}
	if (rc)
		return redis_failed(c, e);
	(void)redis_set_timeout(c->redis, REDIS_REPLY_MS, NULL);
	*json = reply_steal(reply, &len);
	reply_free(reply);
	return 0;
}

static int wait_for(struct adwuma *c, const char *const *queues, size_t nqueues, const char *id, int64_t timeout_ms,
		    char **json, struct error *e)
{
	int64_t deadline = clock_mono_ms() + (timeout_ms < WAIT_MAX_MS ? timeout_ms : WAIT_MAX_MS);
	int64_t piece = nqueues == 1 ? WAIT_PIECE_MS : WAIT_SLICE_MS;
	size_t looks = nqueues == 1 ? 0 : nqueues; /* so many queues are only looked into before one is waited on */
	unsigned tries = 0;

	for (size_t i = 0;;) {
		int64_t left = deadline - clock_mono_ms();

		if (ask(c, queues[i], id, left < 0 || looks > 0 ? 0 : left < piece ? left : piece, json, e)) {
			if (!is_link(e) || !c->was_connected || left <= 0)
				return -1;
			pause_before(tries++, left);
			looks = nqueues; /* it may have come meanwhile */
			continue;
		}
		if (*json)
			return 0;
		if (looks > 0)
			looks--;
		else
			tries = 0;
		if (left <= 0 && looks == 0)
			return error_set(e, ERR_TIMEOUT, "no result within %lld.%03lld s",
					 (long long)(timeout_ms / 1000), (long long)(timeout_ms % 1000));
		i = (i + 1) % nqueues;
	}
}

/* The names that came from outside, checked: they become parts of keys. */
static int check_names(const char *queue, const char *id, struct error *e)
{
	if (!queue || !draft_is_queue(queue, strlen(queue)))
		return error_set(e, ERR_INVALID, "'%.80s' is no queue name: 1 to %d characters of a-z 0-9 _ . -",
				 queue ? queue : "", QUEUE_NAME_MAX);
	if (!id || !draft_is_id(id, strlen(id)))
		return error_set(e, ERR_INVALID, "'%.140s' is no id: 1 to %d characters of A-Z a-z 0-9 . _ : -",
				 id ? id : "", ADWUMA_ID_MAX);
	return 0;
}

int client_wait(adwuma *client, const char *const *queues, size_t nqueues, const char *id, int64_t timeout_ms,
		char **json, struct adwuma_error *err)
{
	struct sigpipe sigpipe;
	struct error e = {0};
	char *found = NULL;
	int rc;

	for (size_t i = 0; i < nqueues; i++)
		if (check_names(queues[i], id, &e))
			return tell(err, &e);
	sigpipe_block(&sigpipe);
	rc = wait_for(client, queues, nqueues, id, timeout_ms > 0 ? timeout_ms : 0, &found, &e);
	sigpipe_restore(&sigpipe);
	if (rc)
		return tell(err, &e);
	*json = found;
	return 0;
}

int adwuma_wait(adwuma *client, const char *queue, const char *id, int64_t timeout_ms, char **json,
		struct adwuma_error *err)
{
	return client_wait(client, &queue, 1, id, timeout_ms, json, err);
}

/* --- Audio. ------------------------------------------------------------------------------------------------------- */

static int put(struct adwuma *c, const char *key, const void *bytes, size_t len, int64_t ttl_s, struct error *e)
{
	for (int tries = 0;; tries++) {
		if (connect_if_needed(c, e))
			return -1;
		if (redis_call(c->redis, NULL, e, "SET %s %b EX %lld", key, len ? bytes : "", len, (long long)ttl_s) ==
		    0)
			return 0;
		redis_failed(c, e);
		/* Once more, for a connection that had been idle too long; the same bytes may be set twice. */
		if (!is_link(e) || tries > 0)
			return -1;
	}
}

int adwuma_put_audio(adwuma *client, const char *queue, const char *name, const void *bytes, size_t len, int64_t ttl_s,
		     char *key, size_t key_bytes, struct adwuma_error *err)
{
	struct sigpipe sigpipe;
	struct error e = {0};
	struct keys keys;
	char whole[KEY_MAX];
	int rc;

	if (check_names(queue, name, &e))
		return tell(err, &e);
	keys_init(&keys, client->prefix, queue);
	if (key_audio(&keys, name, whole) >= key_bytes || len > AUDIO_MAX_BYTES || ttl_s < 1 || ttl_s > TTL_MAX_S) {
		error_set(&e, ERR_INVALID,
			  "the audio may have %lu bytes at most, must expire within %lld s, and its key needs room",
			  AUDIO_MAX_BYTES, TTL_MAX_S);
		return tell(err, &e);
	}
	sigpipe_block(&sigpipe);
	rc = put(client, whole, bytes, len, ttl_s, &e);
	sigpipe_restore(&sigpipe);
	if (rc)
		return tell(err, &e);
	memcpy(key, whole, strlen(whole) + 1);
	return 0;
}

/* Appends the audio from where out ends. */
static int get_rest(struct adwuma *c, const char *key, struct buf *out, struct error *e)
{
	size_t got = PIECE_BYTES;

	if (connect_if_needed(c, e))
		return -1;
	while (got == PIECE_BYTES) {
		struct reply *reply = NULL;
		const char *bytes;

		if (redis_call(c->redis, &reply, e, "GETRANGE %s %lld %lld", key, (long long)out->len,
			       (long long)(out->len + PIECE_BYTES - 1)))
			return redis_failed(c, e);
		bytes = reply_bytes(reply, &got);
		if (bytes)
			buf_add(out, bytes, got);
		else
			got = 0;
		reply_free(reply);
	}
	return out->failed ? error_set(e, ERR_MEMORY, "no memory for the audio") : 0;
}

static int get(struct adwuma *c, const char *key, struct buf *out, struct error *e)
{
	/* Once more, for a connection that had been idle too long; what came stays. */
	if (get_rest(c, key, out, e) && (!is_link(e) || !c->was_connected || get_rest(c, key, out, e)))
		return -1;
	return 0;
}

int adwuma_get_audio(adwuma *client, const char *key, char **bytes, size_t *len, struct adwuma_error *err)
{
	struct buf out = BUF_INIT(AUDIO_MAX_BYTES);
	struct sigpipe sigpipe;
	struct error e = {0};
	struct keys keys;
	int rc;

	keys_init(&keys, client->prefix, "any");
	if (!key || !key_is_audio(&keys, key)) {
		error_set(&e, ERR_INVALID, "'%.200s' is no audio key: it must look like %s:{QUEUE}:audio:NAME",
			  key ? key : "", client->prefix);
		return tell(err, &e);
	}
	sigpipe_block(&sigpipe);
	rc = get(client, key, &out, &e);
	sigpipe_restore(&sigpipe);
	if (rc == 0 && out.len == 0) {
		rc = -1;
		if (err) {
			err->code = ADWUMA_MISSING;
			snprintf(err->message, sizeof err->message, "%s does not exist, or no longer", key);
		}
	} else if (rc) {
		tell(err, &e);
	} else {
		*len = out.len;
		*bytes = buf_steal(&out);
	}
	buf_release(&out);
	return rc;
}
