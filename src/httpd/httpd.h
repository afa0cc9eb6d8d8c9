/* SPDX-License-Identifier: MIT
 *
 * A small HTTP server: the only code that knows libmicrohttpd. One epoll thread of the library's serves all
 * connections; answers that are asked to be late are suspended and woken by one timer thread, so thousands of them cost
 * no thread.
 *
 * Besides plain answers it offers what a bad server does to its clients, because the stub API must be able to do it. */
#ifndef ADWUMA_HTTPD_HTTPD_H
#define ADWUMA_HTTPD_HTTPD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

#define HTTPD_HEADERS_MAX 8

struct httpd;
struct httpd_request;

/* Of the request at hand; strings are borrowed until the handler returns. NULL: absent. */
const char *httpd_method(const struct httpd_request *r);
const char *httpd_path(const struct httpd_request *r);			  /* decoded */
const char *httpd_target(const struct httpd_request *r);		  /* path and query as they came */
const char *httpd_query(const struct httpd_request *r, const char *name); /* decoded */
const char *httpd_header(const struct httpd_request *r, const char *name);
int64_t httpd_connection(
	const struct httpd_request *r);		  /* its number, from 1 on; 0 where there was no memory to count */
bool httpd_reused(const struct httpd_request *r); /* its connection had another before */
const char *httpd_body(const struct httpd_request *r, size_t *len);
/* All of them, in the order in which they came; value is "" where there is none. */
typedef void httpd_pair_fn(void *ctx, const char *name, const char *value);
void httpd_queries(const struct httpd_request *r, httpd_pair_fn *pair, void *ctx);
void httpd_headers(const struct httpd_request *r, httpd_pair_fn *pair, void *ctx);

enum httpd_manner {
	HTTPD_PLAIN,
	HTTPD_HANG,	/* no answer, until the client goes or the server stops */
	HTTPD_RESET,	/* the connection is reset */
	HTTPD_CLOSE,	/* the connection is closed before the first byte of an answer */
	HTTPD_TRUNCATE, /* half of the body that was announced, then closed */
	HTTPD_LEAVE,	/* the whole answer, then closed without a word */
	HTTPD_CUT,	/* the whole body, then closed, though its end was not told (chunked) */
	HTTPD_STAY,	/* the whole body, then nothing, until the client goes or the server stops */
};

/* The body goes no further than `at` before so long has passed. */
struct httpd_pause {
	size_t at;
	int64_t ms;
};

/* How an answer went. */
struct httpd_end {
	size_t sent; /* bytes of the body that were on their way, where it went piece by piece; else 0 */
	bool gone;   /* the client went before the end, which it was to have */
};

struct httpd_answer {
	int status;
	struct {
		const char *name; /* static */
		char value[256];
	} headers[HTTPD_HEADERS_MAX];
	size_t nheaders;
	struct buf body; /* the server takes it */
	enum httpd_manner manner;
	bool chunked;		    /* the body's length is not announced */
	int64_t delay_ms;	    /* before the answer */
	int64_t body_delay_ms;	    /* in the middle of the body */
	int64_t dribble_ms;	    /* before each byte of the body */
	struct httpd_pause *pauses; /* NULL, or in order of `at`; the server frees them */
	size_t npauses;
	void (*touch)(char *bytes, size_t n); /* NULL, or changes bytes at the moment they are sent */
	/* Or NULL: on the server's thread, when the answer is out or its connection lost. The body is there still if it went
	 * piece by piece. */
	void (*done)(void *ctx, const struct httpd_answer *a, const struct httpd_end *end);
	void *done_ctx;
};
void httpd_add_header(struct httpd_answer *a, const char *name, const char *value);

/* Runs on the server's thread; must not block. Fills *answer, which is all zero. */
typedef void httpd_handler(void *ctx, const struct httpd_request *r, struct httpd_answer *answer);

/* listen: HOST:PORT, port 0 for any. Bodies larger than max_body_bytes are answered with 413. *port: the one taken. */
struct httpd *httpd_start(const char *listen, size_t max_body_bytes, httpd_handler *handler, void *ctx, uint16_t *port,
			  struct error *err);
/* The same over TLS, if tls is not NULL: PEM files, the certificate's with those of its issuers if need be. */
struct httpd_tls {
	const char *cert_path, *key_path;
};
struct httpd *httpd_start_tls(const char *listen, const struct httpd_tls *tls, size_t max_body_bytes,
			      httpd_handler *handler, void *ctx, uint16_t *port, struct error *err);
void httpd_stop(struct httpd *h); /* NULL is fine */

#endif
