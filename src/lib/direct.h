/* SPDX-License-Identifier: MIT
 *
 * A job is done here and now, without Redis and without a worker, by the very code that a worker runs; its result and its errors are the same.
 * What a worker would spread over the queue's delayed list is waited for here.
 *
 * A site is what many may share, any thread; a struct direct does one job after another, one thread at a time. */
#ifndef ADWUMA_LIB_DIRECT_H
#define ADWUMA_LIB_DIRECT_H

#include "base/buf.h"
#include "base/err.h"
#include "settings/settings.h"

/* settings is borrowed. Files may be anywhere: audio_path is the whole name of a file. job_bytes: of the largest job. Returns owned. */
struct direct_site;
struct direct_site *direct_site_open(const struct settings *settings, int64_t job_bytes, struct error *err);
void direct_site_close(struct direct_site *s); /* after all of its direct; NULL is fine */

struct direct;
struct direct *direct_open(struct direct_site *site, struct error *err); /* returns owned */
void direct_close(struct direct *d);					 /* NULL is fine */

struct direct_outcome {
	bool succeeded;
	bool unreachable;  /* no answer came: the API cannot be reached */
	bool timed_out;	   /* the time was up before it was settled; result says how the last try ended */
	struct buf result; /* the whole result, as a worker would write it */
	struct buf audio;  /* what was synthesized; the result names no place for it */
};
void direct_outcome_release(struct direct_outcome *o);

/* Where pieces of a stream go while they come: the API's event object, borrowed. NULL: attempt n broke off, and what
 * came before is void. */
typedef void direct_piece_fn(void *ctx, const char *json, size_t n);
/* For the jobs that are done from now on; NULL: nowhere. */
void direct_on_piece(struct direct *d, direct_piece_fn *piece, void *ctx);

/* Does one job of that type: json is what would be submitted. Takes as long as its tries and the pauses between them take, at most until
 * deadline_ms (clock_mono_ms()). Fills *out, which the caller releases. */
void direct_run(struct direct *d, const char *type, const char *json, size_t len, int64_t deadline_ms,
		struct direct_outcome *out);

#endif
