/* SPDX-License-Identifier: MIT
 *
 * What the stub was asked: counters, and the last calls, so that a test can see what was really sent. Used from the
 * server's thread only. */
#ifndef ADWUMA_STUB_CALLS_H
#define ADWUMA_STUB_CALLS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "httpd/httpd.h"

struct calls;
struct calls *calls_new(bool record);
void calls_free(struct calls *c);
/* What a call asked for beyond its head; NULL: nothing of that kind. */
struct call_input {
	const char *text, *language;
	const char *speaker, *speaker_id, *format;
	bool stream;
	const char *route; /* by which it is counted; NULL: its path */
	const char *more;  /* members of its record, each with a comma before it; NULL: none */
};
/* A call that was counted. */
struct call_ref {
	int64_t seq;
	unsigned era; /* numbers begin anew with each reset */
};
/* Counts and records a call whose answer is made. Takes a->done, to know when it is over; c outlives the server. */
struct call_ref calls_add(struct calls *c, const struct httpd_request *r, const struct call_input *in,
			  struct httpd_answer *a);
/* Members for the record of a call that was added, if it is kept still; each with a comma before it. */
void calls_note(struct calls *c, struct call_ref call, const char *members);
void calls_reset(struct calls *c);
/* JSON array of the recorded calls with seq > since, oldest first, at most limit. */
void calls_list(const struct calls *c, int64_t since, int64_t limit, struct buf *out);
/* {"calls":N,"routes":{…},"statuses":{…},"active":n,"max_active":n,"gone":n}: gone, clients that went before their answer's end */
void calls_stats(const struct calls *c, struct buf *out);
/* How often this was asked about what these n texts and the number say together, this time included. */
int64_t calls_seen(struct calls *c, const char *const *texts, size_t n, size_t number);

#endif
