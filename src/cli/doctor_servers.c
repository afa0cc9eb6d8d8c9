/* SPDX-License-Identifier: MIT
 *
 * doctor: which servers have our queues, the connection to each, and how each is named in what mends it. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/doctor.h"

#define ANSWER_MS 3000

/* --- Names. ------------------------------------------------------------------------------------------------------- */

static void add_option(struct buf *line, const char *option, const char *value)
{
	char word[DOCTOR_TEXT_MAX];

	if (value)
		buf_printf(line, " %s %s", option, shell_word(value, word));
}

static void add_tls(const struct doctor *d, struct buf *line)
{
	if (!d->look.address.tls)
		return;
	buf_lit(line, " --tls");
	add_option(line, "--cacert", d->settings->redis_ca_file);
	add_option(line, "--cert", d->settings->redis_cert_file);
	add_option(line, "--key", d->settings->redis_key_file);
}

/* What mends a Redis is an administrator's to do: where we have a name of our own there, it is one of those who may not. With --askpass: a command
 * line is no place for a password, nor is what we print. */
static void add_login(const struct doctor *d, struct buf *line)
{
	const char *user = d->look.address.username;

	if (user && strcmp(user, "default") != 0)
		buf_lit(line, " --user ADMIN --askpass");
	else if (d->look.address.password)
		buf_lit(line, " --askpass");
}

static const char *give(struct buf *line, char out[DOCTOR_TEXT_MAX])
{
	snprintf(out, DOCTOR_TEXT_MAX, "%s", buf_cstr(line));
	buf_release(line);
	return out;
}

const char *cli_of(const struct doctor *d, const struct redis_point *at, bool with_login, char out[DOCTOR_TEXT_MAX])
{
	struct buf line = BUF_INIT(DOCTOR_TEXT_MAX - 1);

	buf_lit(&line, "redis-cli");
	if (redis_spreads(&d->look.address))
		buf_lit(&line, " -c");
	add_option(&line, at ? "-h" : "-s", at ? at->host : d->look.address.socket);
	if (at)
		buf_printf(&line, " -p %d", at->port);
	add_tls(d, &line);
	if (with_login)
		add_login(d, &line);
	return give(&line, out);
}

const char *cluster_cli(const struct doctor *d, char out[DOCTOR_TEXT_MAX])
{
	struct buf line = BUF_INIT(DOCTOR_TEXT_MAX - 1);

	buf_lit(&line, "redis-cli");
	add_tls(d, &line);
	add_login(d, &line);
	buf_lit(&line, " --cluster");
	return give(&line, out);
}

static void name_server(struct doctor *d, struct server *s)
{
	const struct redis_address *a = &d->look.address;
	size_t len;

	if (s->at.port)
		point_show(&s->at, s->where, sizeof s->where);
	else
		snprintf(s->where, sizeof s->where, "%s", a->socket);
	len = strlen(cli_of(d, s->at.port ? &s->at : NULL, true, s->cli));
	if (a->db != 0)
		snprintf(s->cli + len, sizeof s->cli - len, " -n %d", a->db);
}

void mend_url(struct doctor *d, const char *scheme, const char *comment, const char *fmt, ...)
{
	/* What the URL holds we do not print. */
	bool secret = d->look.address.password && !d->settings->redis_password;
	char word[DOCTOR_TEXT_MAX];
	struct buf url = BUF_INIT(DOCTOR_TEXT_MAX - 1);
	char rest[DOCTOR_TEXT_MAX], set[DOCTOR_TEXT_MAX];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(rest, sizeof rest, fmt, ap);
	va_end(ap);
	buf_printf(&url, "redis%s%s://%s", d->look.address.tls ? "s" : "", scheme, rest);
	mend(d, "%s%s%s%s%s%s", set_of(d, "ADWUMA_REDIS_URL", set), shell_word(buf_cstr(&url), word),
	     comment || secret ? "    # " : "", comment ? comment : "", comment && secret ? "; " : "",
	     secret ? "with user and password before the host, as now" : "");
	buf_release(&url);
}

/* --- Servers. ----------------------------------------------------------------------------------------------------- */

static struct server *server_at(struct doctor *d, const struct redis_point *at)
{
	struct server *s = d->servers;

	for (; s < d->servers + d->nservers; s++)
		if (s->at.port == at->port && strcmp(s->at.host, at->host) == 0)
			return s;
	d->nservers++;
	s->at = *at;
	s->queues = BUF_INIT(QUEUES_MAX * (QUEUE_NAME_MAX + 1));
	name_server(d, s);
	return s;
}

int doctor_find(struct doctor *d, struct error *err)
{
	char names[QUEUES_MAX][KEY_MAX];
	const char *keys[QUEUES_MAX];
	struct redis_point points[QUEUES_MAX] = {0};
	struct keys k;

	for (size_t i = 0; i < d->look.nqueues; i++) {
		keys_init(&k, d->settings->key_prefix, d->look.queues[i]);
		keys[i] = memcpy(names[i], k.ready, sizeof names[i]);
	}
	d->servers = calloc(d->look.nqueues + 1, sizeof *d->servers);
	if (!d->servers)
		return error_set(err, ERR_MEMORY, "out of memory");
	if (redis_find(&d->look.address, keys, d->look.nqueues, points, err))
		return -1;
	for (size_t i = 0; i < d->look.nqueues; i++) {
		if (points[i].port == 0 && !d->look.address.socket)
			continue;
		d->of[i] = server_at(d, &points[i]);
		buf_printf(&d->of[i]->queues, "%s%s", d->of[i]->queues.len ? "," : "", d->look.queues[i]);
	}
	return 0;
}

void doctor_forget(struct doctor *d)
{
	for (size_t i = 0; i < d->nservers; i++) {
		redis_close(d->servers[i].redis);
		reply_free(d->servers[i].info_reply);
		buf_release(&d->servers[i].queues);
	}
	free(d->servers);
	buf_release(&d->bare);
}

bool doctor_is_node(const struct doctor *d)
{
	return d->at && redis_spreads(&d->look.address);
}

bool doctor_enter(struct doctor *d, size_t i)
{
	d->at = d->of[i];
	return d->at && d->at->redis && !d->at->stranger && !d->at->only_pushes;
}

int doctor_connect(struct doctor *d, struct error *err)
{
	struct server *s = d->at;

	redis_close(s->redis);
	s->redis = redis_open_at(&d->look.address, s->at.port ? &s->at : NULL, err);
	if (!s->redis || redis_set_timeout(s->redis, ANSWER_MS, err))
		return -1;
	/* The first command tells whether a password is wanted, and whether anybody is at home. It may also be one that the ACL refuses. */
	if (redis_call(s->redis, NULL, err, "TIME") == 0 ||
	    (err->code == ERR_REFUSED && strncmp(err->msg, "NOAUTH ", 7) != 0))
		return 0;
	redis_close(s->redis);
	s->redis = NULL;
	return -1;
}

/* --- One of another kind. ----------------------------------------------------------------------------------------- */

static void found_sentinel(struct doctor *d, struct redis *r, const char *where, const char *host)
{
	struct buf names = BUF_INIT(WORD_MAX);
	const char *watched = sentinel_names(r, &names);
	char comment[WORD_MAX + 32];

	snprintf(comment, sizeof comment, "it watches %s", buf_cstr(&names));
	found(d, FOUND_BAD, "%s is a sentinel: it watches %s, and takes no jobs itself", where, watched);
	mend_url(d, "+sentinel", strchr(buf_cstr(&names), ',') ? comment : NULL, "%s/%.*s/%d", host,
		 names.len ? (int)strcspn(buf_cstr(&names), ",") : 4, names.len ? buf_cstr(&names) : "NAME",
		 d->look.address.db);
	buf_release(&names);
}

void found_other_kind(struct doctor *d, struct redis *r, const struct redis_point *at, const char *where)
{
	struct redis_point here = {"127.0.0.1", 0};
	struct reply *reply = NULL;
	const char *info, *mode, *port;
	char host[WHERE_MAX];

	(void)redis_call(r, &reply, NULL, "INFO default");
	info = reply_bytes(reply, NULL);
	mode = info ? redis_info_value(info, "redis_mode") : NULL;
	if (info && !mode)
		mode = redis_info_value(info, "server_mode"); /* of Valkey */
	port = info ? redis_info_value(info, "tcp_port") : NULL;
	here.port = port ? (int)strtol(port, NULL, 10) : 0;
	point_show(at && at->port ? at : &here, host, sizeof host);
	if (mode && strncmp(mode, "sentinel", 8) == 0) {
		found_sentinel(d, r, where, host);
	} else if (mode && strncmp(mode, "cluster", 7) == 0) {
		found(d, FOUND_BAD, "%s is one node of a cluster, and redis_url is not one of a cluster", where);
		mend_url(d, "+cluster", NULL, "%s", host);
	} else {
		found(d, FOUND_BAD, "%s is a Redis that stands alone, and redis_url says otherwise", where);
		mend_url(d, "", NULL, "%s/%d", host, d->look.address.db);
	}
	reply_free(reply);
}
