/* SPDX-License-Identifier: MIT */
#include "lib/direct.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "exec/attempt.h"
#include "exec/audio.h"
#include "http/http.h"

#define SLEEP_MAX_MS 60000 /* somebody waits: the SDK's bound, also for what the server asks for */
#define RESULT_MAX (1UL << 30)

struct direct_site {
	struct settings settings; /* a copy, with the whole file system as audio_root */
	struct http_shared *http;
	struct api *api;
};

struct direct {
	struct direct_site *site;
	struct http *http;
	struct attempt attempt;
	struct audio audio;
	struct job *job;	    /* at hand */
	struct outcome_facts facts; /* of it */
	uint64_t random;
	int64_t deadline_ms; /* mono */
	bool answered;	     /* the last call of the job at hand was, for better or worse */
	direct_piece_fn *piece;
	void *piece_ctx;
};

struct direct_site *direct_site_open(const struct settings *settings, int64_t job_bytes, struct error *err)
{
	static char root[] = "/";
	struct direct_site *s = calloc(1, sizeof *s);

	if (!s) {
		error_set(err, ERR_MEMORY, "out of memory");
		return NULL;
	}
	s->settings = *settings;
	s->settings.audio_root = root;
	s->settings.max_job_bytes = job_bytes;
	s->http = http_shared_new(settings->api_ca_file, err);
	s->api = s->http ? api_new(&s->settings, err) : NULL;
	if (!s->api) {
		direct_site_close(s);
		return NULL;
	}
	return s;
}

void direct_site_close(struct direct_site *s)
{
	if (!s)
		return;
	api_free(s->api);
	http_shared_free(s->http);
	free(s);
}

struct direct *direct_open(struct direct_site *site, struct error *err)
{
	struct direct *d = calloc(1, sizeof *d);

	if (!d) {
		error_set(err, ERR_MEMORY, "out of memory");
		return NULL;
	}
	d->site = site;
	d->random = (uint64_t)clock_real_ms() ^ (uint64_t)(uintptr_t)d;
	attempt_init(&d->attempt, site->api);
	audio_init(&d->audio, &site->settings, NULL);
	d->http = http_new(site->http, err);
	if (!d->http) {
		direct_close(d);
		return NULL;
	}
	return d;
}

void direct_close(struct direct *d)
{
	if (!d)
		return;
	attempt_release(&d->attempt);
	http_free(d->http);
	free(d);
}

void direct_on_piece(struct direct *d, direct_piece_fn *piece, void *ctx)
{
	d->piece = piece;
	d->piece_ctx = ctx;
}

void direct_outcome_release(struct direct_outcome *o)
{
	buf_release(&o->result);
	buf_release(&o->audio);
}

static enum attempt_end make_call(void *ctx, struct call *call, struct http_response *resp)
{
	struct direct *d = ctx;

	int64_t limit_ms = attempt_timeout_ms(d->job, &d->site->settings, NULL),
		left_ms = d->deadline_ms - clock_mono_ms();

	if (left_ms <= 0) /* what nobody waits for any more must not be paid for */
		return ATTEMPT_CANCELLED;
	call->request.timeout_ms = limit_ms < left_ms ? limit_ms : left_ms;
	call->stream.piece = d->piece;
	call->stream.ctx = d->piece_ctx;
	call->repeated = d->facts.billed.n[UNIT_REQUEST] > 0;
	http_perform(d->http, &call->request, resp);
	d->answered = resp->end == HTTP_ANSWERED || resp->end == HTTP_TOO_LARGE;
	if (resp->sent)
		units_add(&d->facts.billed, &call->units);
	d->facts.api_ms += resp->elapsed_ms;
	return ATTEMPT_JUDGED;
}

static void sleep_ms(int64_t ms)
{
	struct timespec t = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000L};

	while (nanosleep(&t, &t) != 0)
		;
}

static double random01(struct direct *d)
{
	d->random = d->random * 6364136223846793005ULL + 1442695040888963407ULL;
	return (double)(d->random >> 11) / 9007199254740992.0;
}

/* One try, from building the request on: pieces of a long text that were finished in earlier ones are in `kept`. */
static void try_once(struct direct *d, const struct attempt_host *host)
{
	struct outcome *out = &d->attempt.out;
	struct error err = {0};
	bool audio;

	outcome_clear(out);
	if (api_build(d->site->api, d->job, &d->attempt.call, out))
		return;
	audio = d->attempt.call.wants_audio;
	if (audio && audio_open(&d->audio, NULL, d->job, &d->attempt.call, out, &err) != AUDIO_READY) {
		audio_close(&d->audio);
		return;
	}
	d->facts.attempts++;
	d->facts.started_at_ms = clock_real_ms();
	switch (attempt_make(&d->attempt, d->job, host)) {
	case ATTEMPT_BACK:
		out->kind = OUTCOME_FAILED;
		fault_set(&out->fault, "APIError", 0, "out of memory");
		break;
	case ATTEMPT_CANCELLED:
		out->kind = OUTCOME_RETRY;
		fault_set(&out->fault, "APIError", 0, "the time was up before the request was sent");
		out->fault.retryable = true;
		break;
	case ATTEMPT_JUDGED:
		d->facts.billed.n[UNIT_TOKEN] += out->tokens;
		break;
	}
	if (audio)
		audio_close(&d->audio);
}

/* False: the time was up before. */
static bool try_until_settled(struct direct *d, const struct attempt_host *host)
{
	struct outcome *out = &d->attempt.out;
	int64_t allowed = attempts_allowed(d->job, &d->site->settings, NULL), wait_ms;

	for (;;) {
		try_once(d, host);
		if (out->tries_max > 0 && out->tries_max < allowed)
			allowed = out->tries_max;
		if (out->kind != OUTCOME_RETRY || (d->attempt.kept_pieces == 0 && d->facts.attempts >= allowed))
			return out->kind != OUTCOME_RETRY || clock_mono_ms() < d->deadline_ms;
		if (d->attempt.kept_pieces > 0) /* worth something: it does not count */
			d->facts.attempts--;
		wait_ms = outcome_retry_delay_ms(d->facts.attempts > 0 ? d->facts.attempts : 1, out->retry_after_ms,
						 random01(d));
		wait_ms = wait_ms < SLEEP_MAX_MS ? wait_ms : SLEEP_MAX_MS;
		if (clock_mono_ms() + wait_ms >= d->deadline_ms)
			return false;
		if (d->piece && d->attempt.call.request.sink)
			d->piece(d->piece_ctx, NULL, (size_t)d->facts.attempts);
		sleep_ms(wait_ms);
	}
}

/* --- Pieces, in memory. ------------------------------------------------------------------------------------------------- */

struct kept {
	struct direct *d;
	struct piece {
		char name[SHA1_HEX_LEN + 1];
		struct buf bytes;
		struct piece *next;
	} * first;
};

static enum attempt_end call_for(void *ctx, struct call *call, struct http_response *resp)
{
	return make_call(((struct kept *)ctx)->d, call, resp);
}

static enum piece_found get_piece(void *ctx, const char *name, struct buf *out)
{
	const struct kept *k = ctx;

	for (const struct piece *p = k->first; p; p = p->next)
		if (strcmp(p->name, name) == 0) {
			buf_add(out, p->bytes.ptr, p->bytes.len);
			return PIECE_FOUND;
		}
	return PIECE_UNKNOWN;
}

/* One that cannot be kept for want of memory is only asked for again where a later one fails. */
static enum piece_put put_piece(void *ctx, const char *name, const struct buf *piece)
{
	struct kept *k = ctx;
	struct piece *p = calloc(1, sizeof *p);

	if (!p)
		return PIECE_NOT_KEPT;
	memcpy(p->name, name, sizeof p->name);
	p->bytes = BUF_INIT(piece->len);
	buf_add(&p->bytes, piece->ptr, piece->len);
	p->next = k->first;
	k->first = p;
	return PIECE_KEPT;
}

static void release_kept(struct kept *k)
{
	while (k->first) {
		struct piece *p = k->first;

		k->first = p->next;
		buf_release(&p->bytes);
		free(p);
	}
}

/* --- A job. ------------------------------------------------------------------------------------------------------------- */

void direct_run(struct direct *d, const char *type, const char *json, size_t len, int64_t deadline_ms,
		struct direct_outcome *out)
{
	struct outcome *o = &d->attempt.out;
	struct kept kept = {.d = d};
	char queue[QUEUE_NAME_MAX + 1]; /* where it would have gone */
	const struct attempt_host host = {.call = call_for,
					  .get_piece = get_piece,
					  .put_piece = put_piece,
					  .ctx = &kept};
	struct job job = {0};

	*out = (struct direct_outcome){.result = BUF_INIT(RESULT_MAX), .audio = BUF_INIT(RESULT_MAX)};
	d->job = &job;
	d->deadline_ms = deadline_ms;
	d->answered = true; /* until a call shows otherwise */
	snprintf(queue, sizeof queue, "%.*s", (int)strcspn(type, "."), type);
	d->facts = (struct outcome_facts){.queue = queue, .worker = "direct"};
	outcome_clear(o);
	if (job_parse(&job, json, len, type, (size_t)d->site->settings.max_job_bytes, &o->fault))
		o->kind = OUTCOME_FAILED;
	else
		out->timed_out = !try_until_settled(d, &host);
	if (o->kind == OUTCOME_RETRY)
		o->kind = OUTCOME_FAILED;
	d->facts.finished_at_ms = clock_real_ms();
	outcome_result_json(&job, o, &d->facts, &out->result);
	out->succeeded = o->kind == OUTCOME_SUCCEEDED;
	out->unreachable = !out->succeeded && !d->answered;
	buf_add(&out->audio, o->audio.ptr, o->audio.len);
	release_kept(&kept);
	job_release(&job);
}
