/* SPDX-License-Identifier: MIT
 *
 * One blocking HTTP call at a time, on a connection that is kept: the only code that knows libcurl.
 *
 * A target (URL and constant headers) is parsed once at start and shared by all threads, read-only. A handle (struct http)
 * belongs to one thread; it remembers the last target, so that a call to the same one sets only the body. TLS sessions and the DNS
 * cache are shared between handles; connections are not. Redirects are never followed; bodies are decompressed; HTTP/1.1.
 *
 * A POST is never sent twice within one call: libcurl would repeat it by itself when a kept connection dies before the first byte of the
 * answer (seen with 7.88); a CURLOPT_PREREQFUNCTION that refuses its second call turns that into a transport fault. */
#ifndef ADWUMA_HTTP_HTTP_H
#define ADWUMA_HTTP_HTTP_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

struct http_target;
struct http;

/* What handles share: TLS sessions, DNS cache, CA store. ca_file: NULL for the system's bundle, else borrowed. Returns owned; it ends after all
 * its handles. Any thread. */
struct http_shared;
struct http_shared *http_shared_new(const char *ca_file, struct error *err);
void http_shared_free(struct http_shared *s); /* NULL is fine */
/* Whether file would do as ca_file. Any time. */
int http_check_ca_file(const char *file, struct error *err);

/* headers: "Name: value" strings ended by NULL, copied; refused where one holds a line break. url: copied; checked. Returns owned.
 * https_only false also lets http pass. */
struct http_target *http_target_new(const char *url, const char *const *headers, bool https_only, struct error *err);
void http_target_free(struct http_target *t); /* NULL is fine; after all handles that used it are gone */

/* A body that is not in memory. read: up to n bytes into to, 0 at the end, -1 on failure (the call then ends as HTTP_BODY_FAILED).
 * rewind: back to the start, 0 or -1. Both run on the thread that called http_perform. */
struct http_body_source {
	int64_t (*read)(void *ctx, char *to, size_t n);
	int (*rewind)(void *ctx);
	void *ctx;
	int64_t size; /* exact, in bytes */
};

/* Where the body of an event stream goes while it comes: an answer of status 200 whose type is text/event-stream. Any other answer is collected
 * as ever. Runs on the thread that called http_perform. */
enum http_sink_says {
	HTTP_SINK_MORE,
	HTTP_SINK_ENOUGH, /* nothing more is needed: a server that does not end its answer soon is left */
	HTTP_SINK_STOP,	  /* the call ends as HTTP_STOPPED */
};
struct http_sink {
	enum http_sink_says (*write)(void *ctx, const char *bytes, size_t n);
	/* NULL, or does what is due while nothing comes; in how many ms it wants to be called again, -1: no need. */
	int64_t (*idle)(void *ctx);
	void *ctx;
};

/* The file of a multipart/form-data body; its bytes are the request's body or source. The target must have no Content-Type of its own. */
struct http_form {
	const char *file_field, *file_name;
	const char *field, *value; /* one more part */
};

struct http_request {
	const struct http_target *target;
	const char *method;	    /* "GET", "POST", … static */
	const char *path;	    /* NULL, or an encoded path that follows the target's URL; borrowed */
	const char *query;	    /* NULL, or an encoded query string without '?'; borrowed */
	const char *const *headers; /* NULL, or further "Name: value" strings ended by NULL; borrowed */
	const char *body;	    /* borrowed; NULL with body_len 0: none */
	size_t body_len;
	const struct http_body_source *source; /* NULL, or used instead of body; borrowed */
	const struct http_form *form;	       /* NULL, or body and source are its file; borrowed */
	const struct http_sink *sink;	       /* NULL, or an event stream may come; borrowed */
	int64_t timeout_ms; /* for the whole call, with a sink for each silence in it; 1–3,600,000 */
	size_t max_response_bytes;
	bool large_response;   /* audio is expected: it is read in larger pieces */
	bool fresh_connection; /* do not reuse a kept connection */
};

enum http_end {
	HTTP_ANSWERED,	  /* status and whole body are there */
	HTTP_TIMED_OUT,	  /* timeout_ms passed */
	HTTP_TRANSPORT,	  /* could not connect, TLS, reset, cut short, bad encoding … */
	HTTP_TOO_LARGE,	  /* the answer is larger than max_response_bytes */
	HTTP_BODY_FAILED, /* the request's body source failed, or was shorter than its size */
	HTTP_ABORTED,	  /* http_abort() */
	HTTP_STOPPED,	  /* the sink said so */
	HTTP_REFUSED,	  /* not tried: bad URL, unsupported protocol: cannot get better by itself */
};

struct http_response {
	enum http_end end;
	long status;		/* 0: no status line came */
	struct buf body;	/* the handle's buffer, reused by its next call: borrowed until then */
	char content_type[256]; /* raw header value, "" when absent */
	char retry_after[128];	/* raw header value, several joined by ", "; "" when absent */
	char fault[256];	/* when end is not HTTP_ANSWERED: libcurl's text, no secrets, no URL query */
	bool sent;		/* bytes of the request went out: it may have been done and billed */
	bool streamed;		/* the answer was an event stream: its body went to the sink */
	double elapsed_ms;
};

struct http *http_new(struct http_shared *shared,
		      struct error *err); /* returns owned; cheap: the curl handle is made at the first call */
void http_free(struct http *h);		  /* NULL is fine */
/* Blocks. Fills *out always. Scratch memory above 64 KiB is given back at the next call. */
void http_perform(struct http *h, const struct http_request *req, struct http_response *out);
/* Any thread: ends a running call within a second (at once where curl can be woken) and refuses later ones until http_unabort. */
void http_abort(struct http *h);
void http_unabort(struct http *h);

/* application/x-www-form-urlencoded value by RFC 3986 percent-encoding (space is %20). */
void http_encode(struct buf *out, const char *s, size_t n);

#endif
