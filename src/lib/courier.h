/* SPDX-License-Identifier: MIT
 *
 * Carries jobs to Redis and results back, for all handles of a client.
 *
 * Two threads with a connection each (in a cluster one more for each further queue). One hands over what callers put down, many jobs in a round trip; while one trip is under way the next gathers.
 * The other takes results from the client's own reply list. A reply can be lost (a connection breaks behind a pop), and a job whose id was done before
 * has none: so the results of what is awaited are also looked at by name, all of them on a new connection and some every second.
 *
 * A handle is in one of four states, which only move forward. Everything is guarded by one lock, held for no input or output. */
#ifndef ADWUMA_LIB_COURIER_H
#define ADWUMA_LIB_COURIER_H

#include "lib/inside.h"

/* That of the client, begun where there is none yet. Borrowed. NULL with *e. */
struct courier *courier_of(struct adwuma *client, struct error *e);
const char *courier_reply_name(const struct courier *c);
/* Puts a job down: its text is copied. known: the id may have been done before. Waits while there is no room, up to the submit time-out. Returns borrowed. */
adwuma_handle *courier_hand(struct courier *c, const char *queue, const char *id, bool known, const struct buf *job,
			    struct error *e);

#endif
