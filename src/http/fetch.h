/* SPDX-License-Identifier: MIT
 *
 * Fetches what a job points to: a URL that somebody else chose, from inside our network, where more can be reached than from theirs.
 *
 * So a URL must be https, hold no credentials, and name a host of a list; a redirect (at most 5 are followed) must do so, too. The address is
 * looked at where the socket to it is made, so that it is the one that is connected to, whatever names resolve to by then: it must be public,
 * or stand in the list itself; localhost, where listed, may be this machine. There is no proxy in between, no kept connection, no cookie, and
 * nothing of ours in the request but a User-Agent. */
#ifndef ADWUMA_HTTP_FETCH_H
#define ADWUMA_HTTP_FETCH_H

#include "http/http.h"

struct fetch_request {
	const char *url;
	const char *allow; /* as allow.h has it */
	/* Whether plain http will do for a host (as in allow_host). NULL: never. */
	bool (*takes_http)(const void *ctx, const char *host, size_t n);
	const void *ctx;
	int fd; /* where the body goes, from the descriptor's offset on */
	int64_t max_bytes;
	int64_t timeout_ms; /* for all of it, 1-3,600,000 */
	int64_t stall_s;    /* so long the server may send next to nothing */
};

enum fetch_end {
	FETCH_DONE,
	FETCH_FAILED,  /* may pass: no connection, broken off, too slow, 408, 429, 5xx, no room here */
	FETCH_REFUSED, /* by us or by the server: cannot get better by itself */
	FETCH_ABORTED, /* http_abort() */
};

struct fetch_response {
	enum fetch_end end;
	bool tried; /* a connection was at least looked for */
	int64_t bytes;
	char fault
		[512]; /* where end is not FETCH_DONE: names the host at most, never the URL's path, query or credentials */
};

/* Blocks. Fills *out always. In place of a call of h's, under the same rules: one thread, http_abort() ends it. */
void http_fetch(struct http *h, const struct fetch_request *req, struct fetch_response *out);

#endif
