/* SPDX-License-Identifier: MIT
 *
 * Commands and replies over a connection that is open.
 *
 * hiredis writes with write(), so SIGPIPE must be ignored (programs) or blocked (library) by whoever calls. Any I/O error finishes the connection;
 * no function logs. */
#include "redis/redis.h"

#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "redis/connection.h"

struct timeval timeval_of_ms(int64_t ms)
{
	return (struct timeval){.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};
}

#define TOO_LATE "no answer in time"

static int link_error(const struct redis *r, struct error *err)
{
	const redisContext *c = r->c;
	bool timed_out = c->err == REDIS_ERR_IO && (errno == EAGAIN || errno == EWOULDBLOCK);
	const char *tls = r->with_tls && !timed_out ? redis_tls_says() : NULL;

	return error_set(err, ERR_LINK, "%s%s", tls ? "TLS: " : "",
			 timed_out    ? TOO_LATE
			 : tls	      ? tls
			 : *c->errstr ? c->errstr
				      : "connection lost");
}

/* An error reply as an error: what passes by itself is told as ERR_LINK, so that callers wait and try again. */
static int reply_as_error(const struct redis *r, const struct reply *p, struct error *err)
{
	const char *text = reply_error(p);

	if (!r->in_cluster && (strncmp(text, "MOVED ", 6) == 0 || strncmp(text, "ASK ", 4) == 0))
		return error_set(
			err, ERR_REFUSED,
			"%s: this Redis is one node of a cluster; redis_url must begin with redis+cluster:// to use it",
			text);
	return error_set(err, reply_passes(p) ? ERR_LINK : ERR_REFUSED, "%s", text);
}

int redis_fd(const struct redis *r)
{
	return r->c ? r->c->fd : -1;
}

const struct redis_point *redis_peer(const struct redis *r)
{
	if (r->routes)
		return routes_peer(r->routes);
	return *r->peer.host ? &r->peer : NULL;
}

void redis_show(const struct redis_address *a, const struct redis *r, char *out, size_t out_bytes)
{
	char all[256];

	redis_address_show(a, out, out_bytes);
	if (!r || a->kind == REDIS_ALONE)
		return;
	snprintf(all, sizeof all, "%s", out);
	point_show(redis_peer(r), out, out_bytes);
	snprintf(out + strlen(out), out_bytes - strlen(out), " of %s", all);
}

const char *redis_run_id(const struct redis *r)
{
	return r->run_id;
}

int64_t redis_opened_ms(const struct redis *r)
{
	return r->opened_ms;
}

int64_t redis_uptime_s(const struct redis *r)
{
	return r->uptime_s;
}

int redis_set_timeout(struct redis *r, int64_t timeout_ms, struct error *err)
{
	if (r->routes)
		return routes_set_timeout(r->routes, timeout_ms, err);
	r->timeout_ms = timeout_ms;
	r->until_ms = 0;
	if (redisSetTimeout(r->c, timeval_of_ms(timeout_ms)) == REDIS_OK)
		return 0;
	return link_error(r, err);
}

int append_text(struct redis *r, const char *text, size_t n, struct error *err)
{
	return redisAppendFormattedCommand(r->c, text, n) == REDIS_OK ? 0 : link_error(r, err);
}

/* A command as one text, for one that is routed. */
static int one_text(const struct redis_args *a, struct buf *text, struct error *err)
{
	char head[REDIS_HEAD_MAX];

	*text = BUF_INIT(REDIS_COMMAND_BYTES_MAX + REDIS_HEAD_MAX);
	buf_add(text, head, redis_args_head(a, head));
	buf_add(text, a->text.ptr, a->text.len);
	return text->failed ? error_set(err, ERR_MEMORY, "out of memory") : 0;
}

static int check_args(const struct redis_args *a, struct error *err)
{
	return a->text.failed ? error_set(err, ERR_MEMORY, "out of memory, or a command longer than Redis reads") : 0;
}

int redis_append(struct redis *r, struct redis_args *a, struct error *err)
{
	char head[REDIS_HEAD_MAX];
	struct buf text;
	int rc;

	if (check_args(a, err))
		return -1;
	if (!r->routes)
		return append_text(r, head, redis_args_head(a, head), err) ||
				       append_text(r, a->text.ptr, a->text.len, err)
			     ? -1
			     : 0;
	rc = one_text(a, &text, err);
	if (rc == 0)
		rc = routes_append(r->routes, text.ptr, text.len, err);
	buf_release(&text);
	return rc;
}

/* As one text, owned (redisFreeCommand); NULL with ERR_MEMORY. */
static char *format(size_t *n, struct error *err, const char *fmt, va_list ap)
{
	char *text = NULL;
	int len = redisvFormatCommand(&text, fmt, ap);

	*n = len > 0 ? (size_t)len : 0;
	if (len < 0)
		error_set(err, ERR_MEMORY, "out of memory");
	return len < 0 ? NULL : text;
}

int redis_appendf(struct redis *r, struct error *err, const char *fmt, ...)
{
	va_list ap;
	char *text;
	size_t n;
	int rc;

	va_start(ap, fmt);
	text = format(&n, err, fmt, ap);
	va_end(ap);
	if (!text)
		return -1;
	rc = r->routes ? routes_append(r->routes, text, n, err) : append_text(r, text, n, err);
	redisFreeCommand(text);
	return rc;
}

int redis_flush(struct redis *r, struct error *err)
{
	int done = 0;

	if (r->routes)
		return routes_flush(r->routes, err);
	while (!done)
		if (redisBufferWrite(r->c, &done) != REDIS_OK)
			return link_error(r, err);
	return 0;
}

/* --- Reading. ----------------------------------------------------------------------------------------------------------------
 *
 * A server that sends a byte now and then lets no read time out, and one may send without end. So a reply as a whole has a limit, too. */

static int give_up(struct redis *r, const char *why, struct error *err)
{
	r->c->err = REDIS_ERR_OTHER; /* nothing is read or written any more */
	snprintf(r->c->errstr, sizeof r->c->errstr, "%s", why);
	return link_error(r, err);
}

int hurry(struct redis *r, struct error *err)
{
	int64_t left_ms = r->until_ms - clock_mono_ms();

	if (left_ms <= 0)
		return give_up(r, TOO_LATE, err);
	return redisSetTimeout(r->c, timeval_of_ms(left_ms)) == REDIS_OK ? 0 : link_error(r, err);
}

/* *nbytes: so many more. */
static int read_some(struct redis *r, size_t *nbytes, struct error *err)
{
	size_t had = r->c->reader->len;

	if (r->until_ms && hurry(r, err))
		return -1;
	errno = 0;
	if (redisBufferRead(r->c) != REDIS_OK)
		return link_error(r, err);
	*nbytes += r->c->reader->len - had;
	return 0;
}

static int take_parsed(struct redis *r, struct reply **out, struct error *err)
{
	void *reply = NULL;

	if (redisGetReplyFromReader(r->c, &reply) != REDIS_OK)
		return link_error(r, err);
	*out = reply;
	return 0;
}

/* The rest of a reply of which there are some bytes, nbytes. */
static int receive_rest(struct redis *r, size_t nbytes, struct reply **out, struct error *err)
{
	int64_t began_ms = clock_mono_ms();

	while (!*out) {
		if (nbytes > r->reply_bytes_max)
			return give_up(r, "an answer without end", err);
		if (clock_mono_ms() - began_ms > r->timeout_ms + (int64_t)nbytes / REPLY_BYTES_PER_MS_MIN)
			return give_up(r, TOO_LATE, err);
		if (read_some(r, &nbytes, err) || take_parsed(r, out, err))
			return -1;
	}
	return 0;
}

int redis_receive(struct redis *r, struct reply **out, struct error *err)
{
	size_t nbytes = 0;

	if (r->routes)
		return routes_receive(r->routes, out, err);
	if (take_parsed(r, out, err))
		return -1;
	if (*out)
		return 0;
	if (redis_flush(r, err) || read_some(r, &nbytes, err) || take_parsed(r, out, err))
		return -1;
	return *out ? 0 : receive_rest(r, nbytes, out, err);
}

int redis_poll(struct redis *r, struct reply **out, struct error *err)
{
	struct pollfd ready = {.fd = r->c->fd, .events = POLLIN};
	size_t nbytes = 0;

	if (take_parsed(r, out, err))
		return -1;
	if (*out || poll(&ready, 1, 0) <= 0)
		return 0;
	return read_some(r, &nbytes, err) ? -1 : take_parsed(r, out, err);
}

/* The reply to a command of its own, as redis_run gives it. */
static int judge(const struct redis *r, struct reply *reply, struct reply **out, struct error *err)
{
	int rc = reply_error(reply) ? reply_as_error(r, reply, err) : 0;

	if (rc == 0 && out)
		*out = reply;
	else
		reply_free(reply);
	return rc;
}

void redis_note_error(const struct redis *r, const struct reply *p, struct error *first)
{
	if (reply_error(p) && first->code == ERR_NONE)
		reply_as_error(r, p, first);
}

int redis_expect(struct redis *r, struct reply **out, struct error *err)
{
	struct reply *reply = NULL;

	return redis_receive(r, &reply, err) ? -1 : judge(r, reply, out, err);
}

static int run_text(struct redis *r, const char *text, size_t n, struct reply **out, struct error *err)
{
	struct reply *reply = NULL;

	if (r->routes ? routes_run(r->routes, text, n, &reply, err)
		      : append_text(r, text, n, err) || redis_receive(r, &reply, err))
		return -1;
	return judge(r, reply, out, err);
}

/* Redis does not say which key is of a wrong type. Returns -1. */
static int name_key(struct error *err, const char *key, size_t len)
{
	if (err && err->code == ERR_REFUSED && strncmp(err->msg, "WRONGTYPE ", 10) == 0)
		return error_prefix(err, "%.*s", (int)len, key);
	return -1;
}

static int run_args(struct redis *r, struct redis_args *a, struct reply **out, struct error *err)
{
	struct reply *reply = NULL;
	struct buf text;
	int rc;

	if (!r->routes) /* most commands by far: without a copy */
		return redis_append(r, a, err) || redis_receive(r, &reply, err) ? -1 : judge(r, reply, out, err);
	if (check_args(a, err))
		return -1;
	rc = one_text(a, &text, err);
	if (rc == 0)
		rc = run_text(r, text.ptr, text.len, out, err);
	buf_release(&text);
	return rc;
}

int redis_run(struct redis *r, struct redis_args *a, struct reply **out, struct error *err)
{
	if (run_args(r, a, out, err) == 0)
		return 0;
	return a->key_len > 0 ? name_key(err, a->text.ptr + a->key_at, a->key_len) : -1;
}

int redis_call(struct redis *r, struct reply **out, struct error *err, const char *fmt, ...)
{
	va_list ap;
	const char *space = strchr(fmt, ' '), *key;
	char *text;
	size_t n;
	int rc;

	va_start(ap, fmt);
	text = format(&n, err, fmt, ap);
	va_end(ap);
	if (!text)
		return -1;
	rc = run_text(r, text, n, out, err);
	redisFreeCommand(text);
	if (rc == 0)
		return 0;
	va_start(ap, fmt);
	key = space && strncmp(space, " %s", 3) == 0 ? va_arg(ap, const char *) : NULL;
	va_end(ap);
	return key ? name_key(err, key, strlen(key)) : -1;
}
