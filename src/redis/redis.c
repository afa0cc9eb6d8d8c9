/* SPDX-License-Identifier: MIT
 *
 * A blocking hiredis connection, opened in fixed steps: connect, authenticate, select, look who answers, load scripts.
 *
 * hiredis 0.14 has no options struct, so keepalive and TCP_USER_TIMEOUT are set on the socket here: a peer that vanished without a
 * word is noticed within PEER_SILENT_MS. hiredis writes with write(), so SIGPIPE must be ignored (programs) or blocked
 * (library) by whoever calls. Any I/O error finishes the connection; no function logs. */
#include "redis/redis.h"

#include <errno.h>
#include <fcntl.h>
#include <hiredis/hiredis.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/digest.h"
#include "redis/connection.h"
#include "redis/scripts.h"

#define PEER_SILENT_MS 20000
#define KEEPALIVE_IDLE_S 15
#define KEEPALIVE_INTERVAL_S 5
#define KEEPALIVE_PROBES 3

struct redis {
	redisContext *c;
	int64_t uptime_s, opened_ms;
	char sha[SCRIPTS][SHA1_HEX_LEN + 1];
};

static struct timeval from_ms(int64_t ms)
{
	return (struct timeval){.tv_sec = ms / 1000, .tv_usec = ms % 1000 * 1000};
}

static int link_error(const struct redis *r, struct error *err)
{
	const redisContext *c = r->c;
	bool timed_out = c->err == REDIS_ERR_IO && (errno == EAGAIN || errno == EWOULDBLOCK);

	return error_set(err, ERR_LINK, "%s",
			 timed_out    ? "no answer in time"
			 : *c->errstr ? c->errstr
				      : "connection lost");
}

/* An error reply as an error: what passes by itself is told as ERR_LINK, so that callers wait and try again. */
static int reply_as_error(const struct reply *p, struct error *err)
{
	return error_set(err, reply_passes(p) ? ERR_LINK : ERR_REFUSED, "%s", reply_error(p));
}

static void tune_socket(int fd)
{
	int on = 1, idle = KEEPALIVE_IDLE_S, interval = KEEPALIVE_INTERVAL_S, probes = KEEPALIVE_PROBES,
	    silent = PEER_SILENT_MS;

	(void)fcntl(fd, F_SETFD, FD_CLOEXEC); /* what a host program starts has no business with it */
	/* On a Unix socket these fail, and are not needed. */
	(void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
	(void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof idle);
	(void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof interval);
	(void)setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof probes);
	(void)setsockopt(fd, IPPROTO_TCP, TCP_USER_TIMEOUT, &silent, sizeof silent);
}

static int connect_to(struct redis *r, const struct redis_address *a, struct error *err)
{
	struct timeval limit = from_ms(REDIS_CONNECT_MS);

	r->c = a->socket ? redisConnectUnixWithTimeout(a->socket, limit)
			 : redisConnectWithTimeout(a->host, a->port, limit);
	if (!r->c)
		return error_set(err, ERR_MEMORY, "out of memory");
	if (r->c->err)
		return error_set(err, ERR_LINK, "%s", *r->c->errstr ? r->c->errstr : strerror(errno));
	tune_socket(r->c->fd);
	return redis_set_timeout(r, REDIS_REPLY_MS, err);
}

static int authenticate(struct redis *r, const struct redis_address *a, struct redis_args *args, struct error *err)
{
	if (a->password) {
		redis_args_clear(args);
		redis_arg_str(args, "AUTH");
		if (a->username)
			redis_arg_str(args, a->username);
		redis_arg_str(args, a->password);
		if (redis_run(r, args, NULL, err))
			return error_prefix(err, "log in");
	}
	if (a->db != 0) {
		redis_args_clear(args);
		redis_arg_str(args, "SELECT");
		redis_arg_int(args, a->db);
		if (redis_run(r, args, NULL, err))
			return error_prefix(err, "select database %d", a->db);
	}
	return 0;
}

const char *redis_info_value(const char *info, const char *name)
{
	size_t n = strlen(name);

	for (const char *line = info; line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : NULL)
		if (strncmp(line, name, n) == 0 && line[n] == ':')
			return line + n + 1;
	return NULL;
}

static int look_who_answers(struct redis *r, struct redis_args *args, struct error *err)
{
	struct reply *reply = NULL;
	const char *info, *version, *role, *uptime;
	int major = 0, minor = 0, rc = 0;

	redis_args_clear(args);
	redis_arg_str(args, "INFO");
	redis_arg_str(args, "default");
	if (redis_run(r, args, &reply, err))
		return error_prefix(err, "INFO");
	info = reply_bytes(reply, NULL);
	version = info ? redis_info_value(info, "redis_version") : NULL;
	role = info ? redis_info_value(info, "role") : NULL;
	uptime = info ? redis_info_value(info, "uptime_in_seconds") : NULL;
	if (!version || sscanf(version, "%d.%d", &major, &minor) != 2)
		rc = error_set(err, ERR_REFUSED, "what answers is no Redis: INFO has no redis_version");
	else if (major < REDIS_MIN_MAJOR || (major == REDIS_MIN_MAJOR && minor < REDIS_MIN_MINOR))
		rc = error_set(err, ERR_REFUSED, "Redis %d.%d is too old: %d.%d or newer is needed", major, minor,
			       REDIS_MIN_MAJOR, REDIS_MIN_MINOR);
	else if (role && strncmp(role, "master", 6) != 0)
		rc = error_set(err, ERR_LINK, "this Redis is a replica; the master is needed");
	r->uptime_s = uptime ? strtoll(uptime, NULL, 10) : 0;
	reply_free(reply);
	return rc;
}

static int load_scripts(struct redis *r, struct redis_args *args, struct error *err)
{
	for (int i = 0; i < SCRIPTS; i++) {
		struct reply *reply = NULL;
		const char *sha;

		redis_args_clear(args);
		redis_arg_str(args, "SCRIPT");
		redis_arg_str(args, "LOAD");
		redis_arg_str(args, embedded_scripts[i].text);
		if (redis_run(r, args, &reply, err))
			return error_prefix(err, "load script %s", embedded_scripts[i].name);
		sha = reply_bytes(reply, NULL);
		snprintf(r->sha[i], sizeof r->sha[i], "%s", sha ? sha : "");
		reply_free(reply);
	}
	return 0;
}

static struct redis *open_in_steps(const struct redis_address *a, bool looks, bool with_scripts, struct error *err)
{
	struct redis *r = calloc(1, sizeof *r);
	struct redis_args args = {0};
	int rc;

	if (!r) {
		error_set(err, ERR_MEMORY, "out of memory");
		return NULL;
	}
	r->opened_ms = clock_mono_ms();
	rc = connect_to(r, a, err);
	if (rc == 0)
		rc = authenticate(r, a, &args, err);
	if (rc == 0 && looks)
		rc = look_who_answers(r, &args, err);
	if (rc == 0 && with_scripts)
		rc = load_scripts(r, &args, err);
	redis_args_release(&args);
	if (rc) {
		redis_close(r);
		return NULL;
	}
	return r;
}

struct redis *redis_open(const struct redis_address *a, bool with_scripts, struct error *err)
{
	return open_in_steps(a, true, with_scripts, err);
}

struct redis *redis_open_any(const struct redis_address *a, struct error *err)
{
	return open_in_steps(a, false, false, err);
}

void redis_close(struct redis *r)
{
	if (!r)
		return;
	if (r->c)
		redisFree(r->c);
	free(r);
}

int redis_fd(const struct redis *r)
{
	return r->c->fd;
}

int64_t redis_opened_ms(const struct redis *r)
{
	return r->opened_ms;
}

int64_t redis_uptime_s(const struct redis *r)
{
	return r->uptime_s;
}

const char *redis_script_sha(const struct redis *r, enum redis_script s)
{
	return r->sha[s];
}

int redis_set_timeout(struct redis *r, int64_t timeout_ms, struct error *err)
{
	if (redisSetTimeout(r->c, from_ms(timeout_ms)) == REDIS_OK)
		return 0;
	return link_error(r, err);
}

int redis_append(struct redis *r, struct redis_args *a, struct error *err)
{
	char head[REDIS_HEAD_MAX];

	if (a->text.failed)
		return error_set(err, ERR_MEMORY, "out of memory, or a command longer than Redis reads");
	if (redisAppendFormattedCommand(r->c, head, redis_args_head(a, head)) == REDIS_OK &&
	    redisAppendFormattedCommand(r->c, a->text.ptr, a->text.len) == REDIS_OK)
		return 0;
	return link_error(r, err);
}

static int append_va(struct redis *r, struct error *err, const char *fmt, va_list ap)
{
	if (redisvAppendCommand(r->c, fmt, ap) == REDIS_OK)
		return 0;
	return link_error(r, err);
}

int redis_appendf(struct redis *r, struct error *err, const char *fmt, ...)
{
	va_list ap;
	int rc;

	va_start(ap, fmt);
	rc = append_va(r, err, fmt, ap);
	va_end(ap);
	return rc;
}

int redis_flush(struct redis *r, struct error *err)
{
	int done = 0;

	while (!done)
		if (redisBufferWrite(r->c, &done) != REDIS_OK)
			return link_error(r, err);
	return 0;
}

int redis_receive(struct redis *r, struct reply **out, struct error *err)
{
	void *reply = NULL;

	errno = 0;
	if (redisGetReply(r->c, &reply) != REDIS_OK || !reply)
		return link_error(r, err);
	*out = reply;
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

int redis_poll(struct redis *r, struct reply **out, struct error *err)
{
	struct pollfd ready = {.fd = r->c->fd, .events = POLLIN};

	if (take_parsed(r, out, err))
		return -1;
	if (*out || poll(&ready, 1, 0) <= 0)
		return 0;
	errno = 0;
	if (redisBufferRead(r->c) != REDIS_OK)
		return link_error(r, err);
	return take_parsed(r, out, err);
}

static int finish_run(struct redis *r, struct reply **out, struct error *err)
{
	struct reply *reply = NULL;

	if (redis_receive(r, &reply, err))
		return -1;
	if (reply_error(reply)) {
		reply_as_error(reply, err);
		reply_free(reply);
		return -1;
	}
	if (out)
		*out = reply;
	else
		reply_free(reply);
	return 0;
}

/* Redis does not say which key is of a wrong type. Returns -1. */
static int name_key(struct error *err, const char *key, size_t len)
{
	if (err && err->code == ERR_REFUSED && strncmp(err->msg, "WRONGTYPE ", 10) == 0)
		return error_prefix(err, "%.*s", (int)len, key);
	return -1;
}

int redis_run(struct redis *r, struct redis_args *a, struct reply **out, struct error *err)
{
	if (redis_append(r, a, err))
		return -1;
	if (finish_run(r, out, err) == 0)
		return 0;
	return a->key_len > 0 ? name_key(err, a->text.ptr + a->key_at, a->key_len) : -1;
}

int redis_call(struct redis *r, struct reply **out, struct error *err, const char *fmt, ...)
{
	va_list ap;
	const char *space = strchr(fmt, ' '), *key;
	int rc;

	va_start(ap, fmt);
	rc = append_va(r, err, fmt, ap);
	va_end(ap);
	if (rc || finish_run(r, out, err) == 0)
		return rc;
	va_start(ap, fmt);
	key = space && strncmp(space, " %s", 3) == 0 ? va_arg(ap, const char *) : NULL;
	va_end(ap);
	return key ? name_key(err, key, strlen(key)) : -1;
}
