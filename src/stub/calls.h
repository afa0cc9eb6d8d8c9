/* SPDX-License-Identifier: MIT
 *
 * What the stub was asked: counters, and a ring of the last calls, so that a test can see what was really sent. Used from the server's
 * thread only. */
#ifndef ADWUMA_STUB_CALLS_H
#define ADWUMA_STUB_CALLS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/buf.h"
#include "httpd/httpd.h"

struct calls;
struct calls *calls_new(bool record);
void calls_free(struct calls *c);
void calls_add(struct calls *c, const struct httpd_request *r, const char *text, int status);
void calls_reset(struct calls *c);
/* JSON array of the recorded calls with seq > since. */
void calls_list(const struct calls *c, int64_t since, struct buf *out);
/* {"calls":N,"routes":{…},"statuses":{…}} */
void calls_stats(const struct calls *c, struct buf *out);
/* How often this input was seen with a limited fault, this time included. */
int64_t calls_seen(struct calls *c, const char *input);

#endif
