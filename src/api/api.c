/* SPDX-License-Identifier: MIT
 *
 * From a job to the adapter of its service. */
#include "api/api.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/khaya.h"
#include "api/taskingai.h"
#include "audio/wav.h"

#define BODY_MAX (1UL << 30) /* a job is bounded by max_job_bytes; this only stops runaways */

struct api {
	const struct settings *settings;
	struct khaya *khaya;
	struct taskingai *taskingai;
};

struct api *api_new(const struct settings *settings, struct error *err)
{
	struct api *api = calloc(1, sizeof *api);

	if (!api) {
		error_set(err, ERR_MEMORY, "out of memory");
		return NULL;
	}
	api->settings = settings;
	api->khaya = khaya_new(settings, err);
	api->taskingai = api->khaya ? taskingai_new(settings, err) : NULL;
	if (!api->taskingai) {
		api_free(api);
		return NULL;
	}
	return api;
}

void api_free(struct api *api)
{
	if (!api)
		return;
	khaya_free(api->khaya);
	taskingai_free(api->taskingai);
	free(api);
}

void call_init(struct call *c)
{
	*c = (struct call){.body = BUF_INIT(BODY_MAX),
			   .query = BUF_INIT(BODY_MAX),
			   .path = BUF_INIT(BODY_MAX),
			   .names = BUF_INIT(BODY_MAX)};
	stream_init(&c->stream);
}

void call_release(struct call *c)
{
	buf_release(&c->body);
	buf_release(&c->query);
	buf_release(&c->path);
	buf_release(&c->names);
	stream_release(&c->stream);
	cut_release(&c->cut);
}

void call_add_header(struct call *c, const char *header)
{
	size_t n = 0;

	while (c->headers[n])
		n++;
	if (n + 1 == sizeof c->headers / sizeof *c->headers)
		return;
	c->headers[n] = header;
	c->headers[n + 1] = NULL;
	c->request.headers = c->headers;
}

/* The job's trace context goes on to the API; a value that is no header value is left out. */
static void add_trace(struct job *job, struct call *call)
{
	const char *trace = job_string(job, JOB_TRACEPARENT, "");
	size_t n = strlen(trace);

	if (n == 0 || n > 256 || strspn(trace, "0123456789abcdef-") != n)
		return;
	snprintf(call->trace, sizeof call->trace, "traceparent: %s", trace);
	call_add_header(call, call->trace);
}

int api_build(const struct api *api, struct job *job, struct call *call, struct outcome *out)
{
	buf_clear(&call->body);
	buf_clear(&call->query);
	buf_clear(&call->path);
	buf_clear(&call->names);
	call->request = (struct http_request){.method = "POST"};
	call->headers[0] = NULL;
	call->wants_audio = call->repeated = false;
	if (call->stream.wanted || job->type->kind == JOB_TASKINGAI)
		stream_restart(&call->stream, (size_t)api->settings->max_response_bytes);
	call->units = (struct units){0};
	call->piece = (struct span){0};
	cut_release(&call->cut);
	out->fault.service = job->type->service;
	add_trace(job, call);
	return job->type->kind == JOB_TASKINGAI ? taskingai_build(api->taskingai, job, call, out)
						: khaya_build(api->khaya, job, call, out);
}

/* --- Pieces of a long text. --------------------------------------------------------------------------------------------- */

size_t api_pieces(const struct call *call)
{
	return call->cut.count;
}

int api_build_piece(const struct api *api, struct job *job, struct call *call, size_t i, struct outcome *out)
{
	buf_clear(&call->body);
	out->fault.service = job->type->service;
	return khaya_build_piece(api->khaya, job, call, i, out);
}

void api_piece_name(const struct api *api, struct job *job, struct call *call, char out[SHA1_HEX_LEN + 1])
{
	khaya_piece_name(api->khaya, job, call, out);
}

int api_take_piece(struct job *job, struct outcome *out, struct buf *piece)
{
	return khaya_take_piece(job, out, piece);
}

bool api_is_piece(const struct job *job, const struct buf *piece)
{
	return khaya_is_piece(job, piece);
}

size_t api_pieces_max(const struct api *api, const struct job *job)
{
	const struct settings *s = api->settings;

	return (size_t)(job->type->kind == JOB_SYNTHESIZE ? s->max_audio_bytes : s->max_response_bytes);
}

void api_join(const struct api *api, struct job *job, const struct call *call, const struct buf *pieces,
	      struct outcome *out)
{
	(void)api;
	out->fault.service = job->type->service;
	khaya_join(job, call, pieces, out);
}

/* --- Answers. ----------------------------------------------------------------------------------------------------------- */

/* What a server echoes goes into results and logs; our keys must not. Shorter ones are no secrets, and would spoil plain words. */
#define SECRET_MIN 8

static void mask(struct buf *text, const char *secret)
{
	size_t n = secret ? strlen(secret) : 0;
	char *at;

	while (n >= SECRET_MIN && text->len >= n && (at = memmem(text->ptr, text->len, secret, n))) {
		memcpy(at, "***", 3);
		memmove(at + 3, at + n, text->len - (size_t)(at - text->ptr) - n + 1); /* with the NUL */
		text->len -= n - 3;
	}
}

void api_mask_secrets(const struct settings *s, struct fault *f)
{
	const char *const secrets[] = {s->khaya_api_key, s->khaya_translation_api_key, s->khaya_asr_api_key,
				       s->khaya_tts_api_key, s->taskingai_api_key};
	struct buf *const texts[4] = {&f->message, &f->code, &f->details, &f->activity_id};

	for (size_t i = 0; i < sizeof secrets / sizeof *secrets; i++)
		for (size_t k = 0; k < 4; k++)
			mask(texts[k], secrets[i]);
}

void api_read(const struct api *api, struct job *job, struct call *call, const struct http_response *resp,
	      struct outcome *out)
{
	out->fault.service = job->type->service;
	if (job->type->kind == JOB_TASKINGAI)
		taskingai_read(job, call, resp, out);
	else
		khaya_read(api->khaya, job, resp, out);
	if (out->kind != OUTCOME_SUCCEEDED)
		api_mask_secrets(api->settings, &out->fault);
}

const char *api_audio_type(const void *head, size_t n)
{
	const unsigned char *b = head;

	if (n >= 12 && memcmp(b, "RIFF", 4) == 0 && memcmp(b + 8, "WAVE", 4) == 0)
		return "audio/wav";
	if (n >= 4 && memcmp(b, "fLaC", 4) == 0)
		return "audio/flac";
	if (n >= 4 && memcmp(b, "OggS", 4) == 0)
		return "audio/ogg";
	if (n >= 4 && memcmp(b, "\x1a\x45\xdf\xa3", 4) == 0) /* what browsers record; seen to be taken */
		return "audio/webm";
	if ((n >= 3 && memcmp(b, "ID3", 3) == 0) || (n >= 2 && b[0] == 0xff && (b[1] & 0xe0) == 0xe0))
		return "audio/mpeg";
	return "application/octet-stream";
}

void api_set_audio_head(struct call *call, const void *head, size_t n, int64_t bytes)
{
	struct wav_info wav;
	struct error err;

	if (call->request.form) /* a file as any other */
		return;
	if (wav_parse_head(head, n, (uint64_t)bytes, &wav, &err) == 0)
		call->units.n[UNIT_AUDIO_SECOND] = (int64_t)ceil(wav.seconds);
	snprintf(call->audio_type, sizeof call->audio_type, "Content-Type: %s", api_audio_type(head, n));
	call_add_header(call, call->audio_type);
}

void api_audio_fault(struct job *job, struct outcome *out, const char *fmt, ...)
{
	char text[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	out->kind = OUTCOME_FAILED;
	if (job->type->kind == JOB_TASKINGAI)
		fault_set(&out->fault, "InvalidJobError", 0, "%s", text);
	else
		fault_set(&out->fault, khaya_input_error(job->type->kind), 400, "%s", text);
	out->fault.service = job->type->service;
}
