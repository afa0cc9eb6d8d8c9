/* SPDX-License-Identifier: MIT
 *
 * The remote services as pure adapters: a job goes in, a request comes out; a response goes in, an outcome comes out.
 * Only http/ touches the network. One row per job type (api.c); a new service is one file and its rows.
 *
 * Ownership: struct api is made once from the settings and shared by all threads, read-only. A struct call belongs to one thread and is
 * reused from job to job. Rules that come from outside cite khaya-api sections in khaya.c. */
#ifndef ADWUMA_API_API_H
#define ADWUMA_API_API_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/err.h"
#include "http/http.h"
#include "job/job.h"
#include "job/outcome.h"
#include "settings/settings.h"

struct api;

/* Builds the targets of all services. settings is borrowed. Returns owned; ERR_CONFIG when a base URL cannot be used. */
struct api *api_new(const struct settings *settings, struct error *err);
void api_free(struct api *api);

struct call {
	struct http_request request; /* source and timeout_ms are the caller's to fill */
	struct buf body;	     /* what request.body points to */
	struct buf query;	     /* what request.query points to */
	char trace[320];	     /* a header of the job's own */
	char audio_type[80];	     /* another */
	const char *headers[3];	     /* what request.headers points to, NULL-terminated */
	bool wants_audio; /* the body is the job's audio: the caller opens it and sets request.source or body */
};
void call_init(struct call *c);
void call_release(struct call *c);

/* Checks the job as the service's SDK does and prepares the request. 0, or -1 with the outcome failed and no call to be made. */
int api_build(const struct api *api, struct job *job, struct call *call, struct outcome *out);
/* Judges what http_perform brought. A transport fault is OUTCOME_RETRY (HTTP_REFUSED and HTTP_TOO_LARGE: OUTCOME_FAILED). */
void api_read(const struct api *api, struct job *job, const struct http_response *resp, struct outcome *out);
/* The media type of audio by its first bytes; "application/octet-stream" when they are unknown. */
const char *api_audio_type(const void *head, size_t n);
/* After the caller opened the audio: its first bytes decide the request's content type. */
void api_set_audio_head(struct call *call, const void *head, size_t n);
/* The error that an unusable audio source is, e.g. ASRTranscriptionError 400; sets out failed. */
void api_audio_fault(struct job *job, struct outcome *out, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

#endif
