/* SPDX-License-Identifier: MIT
 *
 * A connection is opened in fixed steps: find out to whom, connect, TLS, log in, select, look who answers, load scripts.
 *
 * hiredis 0.14 has no options struct, so keepalive and TCP_USER_TIMEOUT are set on the socket here: a peer that vanished without a
 * word is noticed within PEER_SILENT_MS. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "redis/connection.h"
#include "redis/scripts.h"

#define PEER_SILENT_MS 20000
#define KEEPALIVE_IDLE_S 15
#define KEEPALIVE_INTERVAL_S 5
#define KEEPALIVE_PROBES 3

/* --- The steps. ----------------------------------------------------------------------------------------------------------- */

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

static int connect_to(struct redis *r, const struct redis_address *a, const struct redis_point *p, int64_t limit_ms,
		      struct error *err)
{
	struct timeval limit = timeval_of_ms(limit_ms < REDIS_CONNECT_MS ? limit_ms : REDIS_CONNECT_MS);

	r->c = p ? redisConnectWithTimeout(p->host, p->port, limit) : redisConnectUnixWithTimeout(a->socket, limit);
	if (!r->c)
		return error_set(err, ERR_MEMORY, "out of memory");
	if (r->c->err)
		return error_set(err, ERR_LINK, "%s", *r->c->errstr ? r->c->errstr : strerror(errno));
	tune_socket(r->c->fd);
	r->timeout_ms = limit_ms;
	r->until_ms = clock_mono_ms() + limit_ms;
	r->reply_bytes_max = ASKED_BYTES_MAX;
	if (hurry(r, err))
		return -1;
	r->with_tls = a->tls && p;
	return r->with_tls ? redis_tls_begin(a->tls, r, p->host, err) : 0;
}

int other_kind(struct error *err, const char *what, const char *url)
{
	return error_set(err, ERR_REFUSED, "what answers is %s: redis_url must begin with %s to use it", what, url);
}

static int select_database(struct redis *r, int db, struct redis_args *args, struct error *err)
{
	redis_args_clear(args);
	redis_arg_str(args, "SELECT");
	redis_arg_int(args, db);
	if (redis_run(r, args, NULL, err) == 0)
		return 0;
	if (err && strstr(err->msg, "unknown command"))
		return other_kind(err, LIKELY_SENTINEL, "redis+sentinel://");
	return error_prefix(err, "select database %d", db);
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
	return a->db != 0 ? select_database(r, a->db, args, err) : 0;
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
	const char *info, *version, *role, *uptime, *mode, *run_id;
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
	mode = info ? redis_info_value(info, "redis_mode") : NULL;
	run_id = info ? redis_info_value(info, "run_id") : NULL;
	if (!version || sscanf(version, "%d.%d", &major, &minor) != 2)
		rc = error_set(err, ERR_REFUSED, "what answers is no Redis: INFO has no redis_version");
	else if (major < REDIS_MIN_MAJOR || (major == REDIS_MIN_MAJOR && minor < REDIS_MIN_MINOR))
		rc = error_set(err, ERR_REFUSED, "Redis %d.%d is too old: %d.%d or newer is needed", major, minor,
			       REDIS_MIN_MAJOR, REDIS_MIN_MINOR);
	else if (mode && strncmp(mode, "sentinel", 8) == 0)
		rc = other_kind(err, "a sentinel", "redis+sentinel://");
	else if (role && strncmp(role, "master", 6) != 0)
		rc = error_set(err, ERR_LINK, "this Redis is a replica; the master is needed");
	r->uptime_s = uptime ? strtoll(uptime, NULL, 10) : 0;
	if (run_id)
		snprintf(r->run_id, sizeof r->run_id, "%.*s", (int)strcspn(run_id, "\r\n"), run_id);
	reply_free(reply);
	return rc;
}

/* All in one trip: who is far away takes as long for each. */
static int send_scripts(struct redis *r, struct redis_args *args, struct error *err)
{
	for (int i = 0; i < SCRIPTS; i++) {
		redis_args_clear(args);
		redis_arg_str(args, "SCRIPT");
		redis_arg_str(args, "LOAD");
		redis_arg_str(args, embedded_scripts[i].text);
		if (redis_append(r, args, err))
			return -1;
	}
	return 0;
}

static int load_scripts(struct redis *r, struct redis_args *args, struct error *err)
{
	if (send_scripts(r, args, err))
		return -1;
	for (int i = 0; i < SCRIPTS; i++) {
		struct reply *reply = NULL;
		const char *sha;

		if (redis_expect(r, &reply, err))
			return error_prefix(err, "load script %s", embedded_scripts[i].name);
		sha = reply_bytes(reply, NULL);
		snprintf(r->sha[i], sizeof r->sha[i], "%s", sha ? sha : "");
		reply_free(reply);
	}
	return 0;
}

static struct redis *new_connection(const struct redis_address *a, struct error *err)
{
	struct redis *r = calloc(1, sizeof *r);

	if (!r) {
		error_set(err, ERR_MEMORY, "out of memory");
		return NULL;
	}
	r->opened_ms = clock_mono_ms();
	r->in_cluster = a->kind == REDIS_CLUSTER;
	return r;
}

/* Its replies are now those of jobs, which may be long. */
static int opened(struct redis *r, const struct redis_address *a, struct error *err)
{
	r->reply_bytes_max = SIZE_MAX;
	return redis_set_timeout(r, a->kind == REDIS_ALONE ? REDIS_REPLY_MS : OTHERS_REPLY_MS, err);
}

/* A server that wants another certificate than ours, or one at all, ends the connection when the first command comes; the alert that says why may be lost on the way. */
static void hint_at_certificate(const struct redis *r, const struct redis_address *a, struct error *err)
{
	size_t n = err ? strlen(err->msg) : 0;

	if (err && err->code == ERR_LINK && r->ssl && r->c->err)
		snprintf(err->msg + n, sizeof err->msg - n, "; does it %s (redis_cert_file)?",
			 redis_tls_has_certificate(a->tls) ? "accept our certificate" : "want a certificate");
}

struct redis *open_point(const struct redis_address *a, const struct redis_point *point, enum open_steps steps,
			 int64_t limit_ms, struct error *err)
{
	struct redis *r = new_connection(a, err);
	struct redis_args args = {0};
	int rc;

	if (!r)
		return NULL;
	if (point)
		r->peer = *point;
	rc = connect_to(r, a, point, limit_ms, err);
	if (rc == 0)
		rc = authenticate(r, a, &args, err);
	if (rc == 0 && steps >= OPEN_MASTER)
		rc = look_who_answers(r, &args, err);
	if (rc == 0 && steps >= OPEN_SCRIPTS)
		rc = load_scripts(r, &args, err);
	if (rc == 0 && steps >= OPEN_MASTER)
		rc = opened(r, a, err);
	redis_args_release(&args);
	if (rc) {
		hint_at_certificate(r, a, err);
		redis_close(r);
		return NULL;
	}
	return r;
}

/* --- To whom. --------------------------------------------------------------------------------------------------------------- */

static int find_node(const struct redis_address *a, const char *key, struct redis_point *out, struct error *err)
{
	if (cluster_ask(a, err))
		return -1;
	if (key ? cluster_node(a->cluster, cluster_slot(key, strlen(key)), out) : cluster_master(a->cluster, 0, out))
		return 0;
	return error_set(err, ERR_LINK, "no node of the cluster has %s%s", key ? "the slot of " : "slots",
			 key ? key : "");
}

static struct redis *open_found(const struct redis_address *a, const struct redis_point *point, enum open_steps steps,
				struct error *err)
{
	struct redis *r = open_point(a, point, steps, REDIS_CONNECT_MS, err);
	char where[REDIS_HOST_MAX + 16];

	point_show(point, where, sizeof where);
	if (!r)
		error_prefix(err, "%s", where);
	return r;
}

/* A sentinel that has lost the others may name a master of the past for as long as that lasts. */
struct redis *open_named(const struct redis_address *a, enum open_steps steps, struct error *err)
{
	struct redis_point point, tried = {.port = 0};
	struct error nobody = {0};
	struct redis *r = NULL;
	bool any = false;
	size_t next = 0;

	while (!r && sentinel_ask(a, &next, &point, &nobody) == 0) {
		if (point.port == tried.port && strcmp(point.host, tried.host) == 0)
			continue;
		tried = point;
		any = true;
		r = open_found(a, &point, steps, err);
	}
	if (err && r)
		*err = (struct error){0}; /* of one that was tried in vain */
	else if (err && !any)
		*err = nobody;
	return r;
}

static struct redis *watched(const struct redis_address *a, struct redis *r)
{
	if (r)
		watch_add(a, r);
	return r;
}

static struct redis *open_for(const struct redis_address *a, const char *key, enum open_steps steps, struct error *err)
{
	struct redis_point point;

	switch (a->kind) {
	case REDIS_ALONE:
		return open_point(a, a->socket ? NULL : &a->points[0], steps, REDIS_REPLY_MS, err);
	case REDIS_SENTINEL:
		return watched(a, open_named(a, steps, err));
	case REDIS_CLUSTER:
		break;
	}
	return find_node(a, key, &point, err) ? NULL : open_found(a, &point, steps, err);
}

/* Where none of those that are named is a master that answers, the first. */
static int find_master(const struct redis_address *a, struct redis_point *out, struct error *err)
{
	struct redis *r = open_named(a, OPEN_MASTER, NULL);
	size_t next = 0;

	if (!r)
		return sentinel_ask(a, &next, out, err);
	*out = r->peer;
	redis_close(r);
	return 0;
}

int redis_find(const struct redis_address *a, const char *const *keys, size_t n, struct redis_point *points,
	       struct error *err)
{
	struct redis_point one = {0};

	if (a->kind == REDIS_ALONE && !a->socket)
		one = a->points[0];
	else if (a->kind == REDIS_SENTINEL ? find_master(a, &one, err)
					   : a->kind == REDIS_CLUSTER && cluster_ask(a, err))
		return -1;
	for (size_t i = 0; i < n; i++) {
		points[i] = one;
		if (a->kind == REDIS_CLUSTER)
			(void)cluster_node(a->cluster, cluster_slot(keys[i], strlen(keys[i])), &points[i]);
	}
	return 0;
}

struct redis *redis_open(const struct redis_address *a, const char *key, bool with_scripts, struct error *err)
{
	return open_for(a, key, with_scripts ? OPEN_SCRIPTS : OPEN_MASTER, err);
}

struct redis *redis_open_at(const struct redis_address *a, const struct redis_point *point, struct error *err)
{
	return open_point(a, point, OPEN_LOGIN, a->kind == REDIS_ALONE ? REDIS_REPLY_MS : REDIS_CONNECT_MS, err);
}

struct redis *redis_open_routed(const struct redis_address *a, bool with_scripts, struct error *err)
{
	struct redis *r;

	if (a->kind != REDIS_CLUSTER)
		return redis_open(a, NULL, with_scripts, err);
	r = new_connection(a, err);
	if (r && routes_open(r, a, with_scripts, err)) {
		redis_close(r);
		return NULL;
	}
	return r;
}

void redis_close(struct redis *r)
{
	if (!r)
		return;
	if (r->watch)
		watch_remove(r);
	if (r->c)
		redisFree(r->c);
	routes_free(r->routes);
	free(r);
}
