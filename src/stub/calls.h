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
};
/* Counts and records a call whose answer is made. Takes a->done, to know when it is over; c outlives the server. */
void calls_add(struct calls *c, const struct httpd_request *r, const struct call_input *in, struct httpd_answer *a);
void calls_reset(struct calls *c);
/* JSON array of the recorded calls with seq > since, oldest first, at most limit. */
void calls_list(const struct calls *c, int64_t since, int64_t limit, struct buf *out);
/* {"calls":N,"routes":{…},"statuses":{…},"active":n,"max_active":n} */
void calls_stats(const struct calls *c, struct buf *out);
/* How often this was asked about what these n texts and the number say together, this time included. */
int64_t calls_seen(struct calls *c, const char *const *texts, size_t n, size_t number);

#endif
