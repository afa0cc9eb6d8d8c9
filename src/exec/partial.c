/* SPDX-License-Identifier: MIT
 *
 * See partial.h. */
#include "exec/partial.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "base/fault_point.h"
#include "queue/turn.h"

#define WAITING_MAX (1UL << 30) /* what comes is bounded by max_response_bytes; this only stops runaways */
#define KEEP_BYTES 4096
#define TRIP_PIECES 500 /* in one script call */
#define TRIP_BYTES (1024UL * 1024)
#define RETRY_MS 200

void partial_init(struct partial *p, struct side *side)
{
	*p = (struct partial){.side = side, .waiting = BUF_INIT(WAITING_MAX), .lengths = BUF_INIT(WAITING_MAX)};
}

void partial_release(struct partial *p)
{
	buf_release(&p->waiting);
	buf_release(&p->lengths);
}

static void forget_waiting(struct partial *p)
{
	buf_trim(&p->waiting, KEEP_BYTES);
	buf_trim(&p->lengths, KEEP_BYTES);
	p->done = 0;
}

static void open_args(const struct partial *p, struct redis_args *args)
{
	redis_args_script(args, p->side->r, SCRIPT_STREAM);
	redis_arg_int(args, 3);
	redis_arg_str(args, p->stream);
	redis_arg_str(args, p->cursor);
	redis_arg_str(args, p->slot);
	redis_arg_str(args, p->attempt);
	redis_arg_int(args, p->ttl_ms);
}

/* An error reply is no broken connection. */
static int run(const struct partial *p, struct redis_args *args, int64_t *n, struct error *err)
{
	struct reply *reply = NULL;
	int rc;

	fault_point("stream:before");
	rc = redis_run(p->side->r, args, &reply, err);
	fault_point("stream:after");
	*n = reply_int(reply, -1);
	reply_free(reply);
	redis_args_release(args);
	if (rc && err->code != ERR_REFUSED)
		side_close(p->side);
	return rc;
}

enum partial_begun partial_begin(struct partial *p, const struct partial_job *job, struct error *err)
{
	struct redis_args args = {0};
	int64_t n;

	forget_waiting(p);
	p->next = 0;
	p->retry_at_ms = 0;
	p->ttl_ms = job->ttl_ms;
	key_stream(job->keys, job->id, p->stream);
	key_cursor(job->keys, job->id, p->cursor);
	key_slot(job->keys, job->worker, job->slot, p->slot);
	/* No two attempts have the same name, not even of one slot. */
	snprintf(p->attempt, sizeof p->attempt, "%s:%u:%llx", job->worker, job->slot, (long long)clock_mono_us());
	if (side_open(p->side, err))
		return PARTIAL_NO_REDIS;
	open_args(p, &args);
	redis_arg_int(&args, 0);
	turn_add_identity(&args, job->payload, job->payload_len);
	redis_arg_int(&args, job->attempt);
	if (run(p, &args, &n, err))
		return err->code == ERR_REFUSED ? PARTIAL_REFUSED : PARTIAL_NO_REDIS;
	if (n < 0)
		return PARTIAL_TAKEN;
	p->next = 1;
	return PARTIAL_READY;
}

void partial_add(struct partial *p, const char *json, size_t n)
{
	if (p->next == 0)
		return;
	buf_add(&p->waiting, json, n);
	buf_add(&p->lengths, &n, sizeof n);
	/* Without memory the rest of this attempt's pieces cannot be told; its result can. */
	if (p->waiting.failed || p->lengths.failed) {
		forget_waiting(p);
		p->next = 0;
	}
}

static size_t length_at(const struct partial *p, size_t i)
{
	size_t n;

	memcpy(&n, p->lengths.ptr + i * sizeof n, sizeof n);
	return n;
}

/* One trip, from piece `from` of those that wait on: how many went; 0: none could. */
static size_t send_some(struct partial *p, size_t from)
{
	size_t count = p->lengths.len / sizeof(size_t), i = from, at = p->done;
	struct redis_args args = {0};
	struct error err = {0};
	int64_t n;

	if (side_open(p->side, &err))
		return 0;
	open_args(p, &args);
	redis_arg_int(&args, p->next);
	for (; i < count && i - from < TRIP_PIECES && (i == from || at - p->done < TRIP_BYTES); i++) {
		redis_arg(&args, p->waiting.ptr + at, length_at(p, i));
		at += length_at(p, i);
	}
	if (run(p, &args, &n, &err)) {
		if (err.code ==
		    ERR_REFUSED) /* somebody put another key in its place: the result is held then, and tells of it */
			p->next = 0;
		return 0;
	}
	p->done = at;
	p->next = n < 0 ? 0 : p->next + (int64_t)(i - from);
	return i - from;
}

/* What is done need not be kept; what is not, moves to the front. */
static void drop_sent(struct partial *p, size_t sent)
{
	memmove(p->waiting.ptr, p->waiting.ptr + p->done, p->waiting.len - p->done);
	buf_cut(&p->waiting, p->waiting.len - p->done);
	memmove(p->lengths.ptr, p->lengths.ptr + sent * sizeof(size_t), p->lengths.len - sent * sizeof(size_t));
	buf_cut(&p->lengths, p->lengths.len - sent * sizeof(size_t));
	p->done = 0;
}

int64_t partial_flush(struct partial *p)
{
	size_t count = p->lengths.len / sizeof(size_t), sent = 0;
	int64_t now_ms = count > 0 ? clock_mono_ms() : 0;

	if (p->next == 0 || count == 0)
		return -1;
	if (now_ms < p->retry_at_ms)
		return p->retry_at_ms - now_ms;
	/* A connection that broke is made anew at once; one that cannot be made is not tried over and over. */
	for (int failures = 0; sent < count && p->next > 0 && failures < 2;) {
		size_t some = send_some(p, sent);

		sent += some;
		failures += some == 0;
	}
	if (sent == count || p->next == 0) {
		forget_waiting(p);
		return -1;
	}
	drop_sent(p, sent);
	p->retry_at_ms = clock_mono_ms() + RETRY_MS;
	return RETRY_MS;
}

bool partial_finish(struct partial *p)
{
	return partial_flush(p) < 0;
}
