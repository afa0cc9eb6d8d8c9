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

#include "api/stream.h"
#include "base/buf.h"
#include "base/digest.h"
#include "base/err.h"
#include "base/units.h"
#include "http/http.h"
#include "job/job.h"
#include "job/outcome.h"
#include "settings/settings.h"
#include "text/cut.h"

struct api;

/* Builds the targets of all services. settings is borrowed. Returns owned; ERR_CONFIG when a base URL cannot be used. */
struct api *api_new(const struct settings *settings, struct error *err);
void api_free(struct api *api);

struct call {
	struct http_request request; /* source and timeout_ms are the caller's to fill */
	struct buf body;	     /* what request.body points to */
	struct buf query;	     /* what request.query points to */
	struct buf path;	     /* what request.path points to */
	struct buf names;	     /* what form points to */
	struct http_form form;	     /* what request.form points to */
	struct http_sink sink;	     /* what request.sink points to */
	char trace[320];	     /* a header of the job's own */
	char audio_type[80];	     /* another */
	const char *headers[4];	     /* what request.headers points to, NULL-terminated */
	struct call_stream stream;
	bool wants_audio; /* the body is the job's audio or file: the caller opens it and sets request.source or body */
	bool repeated;	  /* the caller's to set before it is read: a request for this job was sent before */
	struct units units; /* what the request will be billed for, once it is sent */
	struct cut cut;	    /* of a text over the API's limit; else without pieces */
	struct span piece;  /* of it, that the request is for; ptr NULL: the whole text */
};
void call_init(struct call *c);
void call_release(struct call *c);
/* header is borrowed. */
void call_add_header(struct call *c, const char *header);

/* Checks the job as the service's SDK does and prepares the request. 0, or -1 with the outcome failed and no call to be made. */
int api_build(const struct api *api, struct job *job, struct call *call, struct outcome *out);
/* How many pieces the text must go out in; 0: the request is the whole job, as api_build has left it. */
size_t api_pieces(const struct call *call);
/* Prepares the request for piece i < api_pieces(). The job's checks were passed, so this fails for want of memory only: -1, out failed. */
int api_build_piece(const struct api *api, struct job *job, struct call *call, size_t i, struct outcome *out);
/* A name for the piece that call is prepared for, the same for the same request only. */
void api_piece_name(const struct api *api, struct job *job, struct call *call, char out[SHA1_HEX_LEN + 1]);
/* After api_read() said that the piece succeeded: appends what it brought to piece. -1, out failed: it is nothing that could be joined. */
int api_take_piece(struct job *job, struct outcome *out, struct buf *piece);
/* Whether such bytes, which came from where pieces are kept, are what api_take_piece() once gave. */
bool api_is_piece(const struct job *job, const struct buf *piece);
/* Most bytes that all pieces together may have. */
size_t api_pieces_max(const struct api *api, const struct job *job);
/* All pieces, in order: out is the job's outcome, succeeded or, where they do not fit together, failed. */
void api_join(const struct api *api, struct job *job, const struct call *call, const struct buf *pieces,
	      struct outcome *out);

/* Judges what http_perform brought. A transport fault is OUTCOME_RETRY (HTTP_REFUSED and HTTP_TOO_LARGE: OUTCOME_FAILED). */
void api_read(const struct api *api, struct job *job, struct call *call, const struct http_response *resp,
	      struct outcome *out);
/* Takes our keys out of what a server said. */
void api_mask_secrets(const struct settings *s, struct fault *f);
/* The media type of audio by its first bytes; "application/octet-stream" when they are unknown. */
const char *api_audio_type(const void *head, size_t n);
#define API_AUDIO_HEAD_BYTES 4096 /* what api_set_audio_head() likes to see */
/* After the caller opened the audio of so many bytes: its first n decide the request's content type, and how long it lasts. */
void api_set_audio_head(struct call *call, const void *head, size_t n, int64_t bytes);
/* The error that an unusable audio source is, e.g. ASRTranscriptionError 400; sets out failed. */
void api_audio_fault(struct job *job, struct outcome *out, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

#endif
