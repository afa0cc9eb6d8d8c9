/* SPDX-License-Identifier: MIT
 *
 * See attempt.h. A piece is kept under a name made from its whole request, so that it is never taken for another one's: whatever changes what
 * would be asked changes the name. */
#include "exec/attempt.h"

#include <stdlib.h>
#include <string.h>

#include "base/digest.h"

void attempt_init(struct attempt *a, const struct api *api)
{
	*a = (struct attempt){.api = api};
	call_init(&a->call);
	outcome_init(&a->out);
}

void attempt_release(struct attempt *a)
{
	call_release(&a->call);
	outcome_release(&a->out);
}

int64_t attempt_timeout_ms(const struct job *job, const struct settings *s, const struct queue_settings *queue)
{
	int64_t set_s;

	if (job_has(job, JOB_TIMEOUT_MS))
		return job->number[JOB_TIMEOUT_MS];
	if (queue && queue->timeout_ms > 0)
		return queue->timeout_ms;
	set_s = job->type->kind == JOB_TASKINGAI ? s->taskingai_timeout : s->khaya_timeout;
	return set_s > 0 ? set_s * 1000 : job->type->timeout_ms;
}

int64_t attempts_allowed(const struct job *job, const struct settings *s, const struct queue_settings *queue)
{
	if (job_has(job, JOB_MAX_ATTEMPTS))
		return job->number[JOB_MAX_ATTEMPTS];
	if (s->khaya_retry_attempts > 0 && job->type->kind != JOB_TASKINGAI)
		return s->khaya_retry_attempts;
	return queue && queue->max_attempts > 0 ? queue->max_attempts : s->max_attempts;
}

/* Under hold a request that went out is not sent again, unless the answer says that nothing was done. */
static void apply_hold(struct outcome *out, struct job *job, const struct http_response *resp)
{
	bool never_whole = resp->end == HTTP_BODY_FAILED;
	struct buf why = BUF_INIT(FAULT_MESSAGE_MAX), code = BUF_INIT(FAULT_MESSAGE_MAX);

	if (!job_holds(job) || !resp->sent || out->kind == OUTCOME_SUCCEEDED || never_whole || out->nothing_done)
		return;
	out->kind = OUTCOME_FAILED;
	if (!out->unclear)
		return;
	buf_str_add(&why, resp->end == HTTP_ANSWERED ? buf_cstr(&out->fault.message) : resp->fault);
	buf_str_add(&code, buf_cstr(&out->fault.code));
	fault_set(
		&out->fault, "UnknownOutcomeError", job->type->kind == JOB_TASKINGAI ? (int)resp->status : 0,
		"no %sanswer came (%s); whether the request was carried out is unknown, and it must not be sent twice "
		"(if_unsure hold)",
		resp->streamed ? "whole " : "", buf_cstr(&why));
	buf_add(&out->fault.code, buf_cstr(&code), code.len);
	buf_release(&why);
	buf_release(&code);
}

static enum attempt_end one_call(struct attempt *a, struct job *job, const struct attempt_host *host)
{
	struct http_response resp;
	enum attempt_end end;

	/* A kept connection may die under a request that nobody may send again. */
	a->call.request.fresh_connection = job_holds(job);
	end = host->call(host->ctx, &a->call, &resp);
	if (end != ATTEMPT_JUDGED)
		return end;
	api_read(a->api, job, &a->call, &resp, &a->out);
	apply_hold(&a->out, job, &resp);
	return end;
}

/* One piece, from where it is kept or by a call. On ATTEMPT_JUDGED with out succeeded it is in `piece`. */
static enum attempt_end one_piece(struct attempt *a, struct job *job, const struct attempt_host *host,
				  struct buf *piece)
{
	char name[SHA1_HEX_LEN + 1];
	enum attempt_end end;

	api_piece_name(a->api, job, &a->call, name);
	if (host->get_piece) {
		switch (host->get_piece(host->ctx, name, piece)) {
		case PIECE_NO_STORE:
			return ATTEMPT_BACK;
		case PIECE_FOUND:
			if (!api_is_piece(job, piece))
				break;
			a->out.kind = OUTCOME_SUCCEEDED;
			return ATTEMPT_JUDGED;
		case PIECE_UNKNOWN:
			break;
		}
		buf_clear(piece);
	}
	end = one_call(a, job, host);
	if (end != ATTEMPT_JUDGED || a->out.kind != OUTCOME_SUCCEEDED)
		return end;
	if (api_take_piece(job, &a->out, piece) || !host->put_piece)
		return end;
	switch (host->put_piece(host->ctx, name, piece)) {
	case PIECE_KEPT:
		a->kept_pieces++;
		break;
	case PIECE_NOT_KEPT:
		break;
	case PIECE_STOP:
		return ATTEMPT_BACK;
	}
	return end;
}

static void too_much(struct attempt *a, struct job *job, size_t done, size_t max)
{
	a->out.kind = OUTCOME_FAILED;
	a->out.fault.service = job->type->service;
	fault_set(&a->out.fault, "APIError", 0,
		  "the first %zu of %zu parts have more than %zu bytes together, which %s allows", done,
		  api_pieces(&a->call), max,
		  job->type->kind == JOB_SYNTHESIZE ? "max_audio_bytes" : "max_response_bytes");
}

static enum attempt_end all_pieces(struct attempt *a, struct job *job, const struct attempt_host *host)
{
	size_t n = api_pieces(&a->call), bytes = 0, max = api_pieces_max(a->api, job);
	struct buf *pieces = calloc(n, sizeof *pieces);
	enum attempt_end end = pieces ? ATTEMPT_JUDGED : ATTEMPT_BACK;

	a->out.kind = OUTCOME_SUCCEEDED;
	for (size_t i = 0; i < n && end == ATTEMPT_JUDGED && a->out.kind == OUTCOME_SUCCEEDED; i++) {
		pieces[i] = BUF_INIT(max);
		outcome_clear(&a->out);
		if (api_build_piece(a->api, job, &a->call, i, &a->out))
			break;
		end = one_piece(a, job, host, &pieces[i]);
		bytes += pieces[i].len;
		if (pieces[i].failed || bytes > max)
			too_much(a, job, i + 1, max);
	}
	if (end == ATTEMPT_JUDGED && a->out.kind == OUTCOME_SUCCEEDED) {
		outcome_clear(&a->out);
		api_join(a->api, job, &a->call, pieces, &a->out);
	}
	for (size_t i = 0; pieces && i < n; i++)
		buf_release(&pieces[i]);
	free(pieces);
	return end;
}

enum attempt_end attempt_make(struct attempt *a, struct job *job, const struct attempt_host *host)
{
	a->kept_pieces = 0;
	return api_pieces(&a->call) > 0 ? all_pieces(a, job, host) : one_call(a, job, host);
}
