/* SPDX-License-Identifier: MIT
 *
 * doctor: what its checks share. A check looks at one thing and tells what it found, in one line or several; what is not well is followed by
 * what mends it: a line for the shell, with what else there is to say behind a #. Nothing that a check does stays in Redis. */
#ifndef ADWUMA_CLI_DOCTOR_H
#define ADWUMA_CLI_DOCTOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "cli/cli.h"
#include "cli/look.h"
#include "http/http.h"
#include "queue/keys.h"

#define DOCTOR_TEXT_MAX 2048 /* a line of what was found, or what mends it */
#define WHERE_MAX (REDIS_HOST_MAX + 16)
#define WORD_MAX 256 /* bytes of a value that INFO or CONFIG gives */

enum doctor_state {
	FOUND_OK,
	FOUND_WARN, /* it works, but may not for long, or not as somebody thinks */
	FOUND_BAD,
	DOCTOR_STATES
};

/* A Redis that has queues of ours: the only one, the master that the sentinels name, or a node of the cluster. Its connection is to it and to no other,
 * never a routed one: rights are asked for between MULTI and DISCARD, and what a routed one takes to other nodes would be carried out there. */
struct server {
	struct redis_point at; /* port 0: the socket */
	char where[DOCTOR_TEXT_MAX];
	struct redis *redis;	   /* NULL: not connected */
	char cli[DOCTOR_TEXT_MAX]; /* the command by which an administrator asks it, without a password */
	struct reply *info_reply;
	const char *info;  /* what INFO said, in info_reply; NULL: nothing */
	bool replica;	   /* it takes no writes */
	bool unfollowed;   /* a node of a cluster that no replica follows */
	bool only_looks;   /* our user has the rights of a viewer there */
	bool only_pushes;  /* of a producer, who may not see what is in queues */
	bool stranger;	   /* it is of another kind than redis_url says, and not asked for keys */
	struct buf queues; /* "translate,transcribe" */
};

struct doctor {
	const struct cli *cli;
	const struct settings *settings;
	struct look look;	/* its redis stays NULL: see servers */
	struct server *servers; /* one for each queue at most */
	size_t nservers;
	struct server *of[QUEUES_MAX]; /* of the queues of look; NULL: none is known */
	struct server *at;	       /* that is being looked at; NULL: none alone */
	bool unreadable[QUEUES_MAX];   /* queues of look that have a key of a wrong type, which was told */
	struct buf bare;	       /* "HOST:PORT, …": masters without replicas that have no queues of ours */
	struct buf unserved;	       /* "translate,transcribe": queues without workers */
	struct buf waiting;	       /* "2 in translate": jobs there */
	struct http_shared *shared;
	struct http *http; /* NULL: the API cannot be asked */
	bool khaya_away;   /* no answer came from there */
	bool unreachable;  /* Redis, or an API */
	const char *check; /* that is being made */
	size_t counts[DOCTOR_STATES];
	int width;	 /* of the names of checks */
	struct buf json; /* max 0: for people */
	bool open;	 /* the last object in json lacks its mend */
};

void found(struct doctor *d, enum doctor_state state, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* What mends what was found last. */
void mend(struct doctor *d, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* The same of a setting of Redis's own: now, and for good. */
void mend_config(struct doctor *d, const char *name, const char *value);
/* The same of what passes. */
void mend_later(struct doctor *d, const char *why);
/* As a word for the shell, in quotes where it needs them. Returns out. */
const char *shell_word(const char *word, char out[DOCTOR_TEXT_MAX]);

/* doctor_given.c: what doctor was given, so that what mends something is about the same Redis, queues and secrets. */
/* " --redis-url URL --queue Q": its flags, for a command of ours; of a password … is left. but: without those whose names begin so, or NULL. Returns out. */
const char *given(const struct doctor *d, const char *but, char out[DOCTOR_TEXT_MAX]);
/* What a value stands behind to become that of a setting: "export ADWUMA_REDIS_URL=" for that variable; where doctor was given a flag, which beats it,
 * "adwuma doctor --redis-url=". Returns out. */
const char *set_of(const struct doctor *d, const char *variable, char out[DOCTOR_TEXT_MAX]);
/* Another value of a secret setting, named by its variable, goes where the one in use stands. */
void mend_secret(struct doctor *d, const char *variable, const char *comment);
/* A password, that nobody asks for. */
void mend_no_password(struct doctor *d);

/* doctor_failures.c: what mends it by what an error says. */
/* Tells that a command was refused, or the connection lost; then it is made anew, for what comes after. what: before the reason, or NULL. */
void found_failed(struct doctor *d, const char *what, struct error *err);
/* The same of an error that was told. */
void mend_error(struct doctor *d, const char *message);
/* Our user may not ask that: nothing is known then, and nothing amiss. */
bool lacks_right(const struct error *err);
/* cli: the command that asks who said so. False: it says nothing that is known. */
bool mend_known(struct doctor *d, const char *cli, const char *message);

/* doctor_servers.c: who is asked, and how they are named. */
/* Whose queues are where, into d->servers. */
int doctor_find(struct doctor *d, struct error *err);
void doctor_forget(struct doctor *d);
/* Anew, that of d->at. */
int doctor_connect(struct doctor *d, struct error *err);
/* Whether d->at is one of several. */
bool doctor_is_node(const struct doctor *d);
/* The server of queue i of look becomes d->at. False: it cannot be asked for keys. */
bool doctor_enter(struct doctor *d, size_t i);
/* "redis-cli -h HOST -p PORT", with what TLS needs, and with an administrator's login where it takes one: what mends a Redis, our own user may not do.
 * Returns out. */
const char *cli_of(const struct doctor *d, const struct redis_point *at, bool with_login, char out[DOCTOR_TEXT_MAX]);
/* The same, ending in " --cluster"; what follows names a node. */
const char *cluster_cli(const struct doctor *d, char out[DOCTOR_TEXT_MAX]);
/* The redis_url that is right: redis, then scheme ("+cluster"), then what fmt gives; a comment, where there is one. */
void mend_url(struct doctor *d, const char *scheme, const char *comment, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
/* Tells that what answers over r is not of the kind that redis_url says, and which URL would be right. where: how it is called. */
void found_other_kind(struct doctor *d, struct redis *r, const struct redis_point *at, const char *where);

/* doctor_host.c: settings, files, this machine. */
void doctor_settings(struct doctor *d);
void doctor_secret_files(struct doctor *d);
void doctor_open_files(struct doctor *d);
/* doctor_sentinels.c, doctor_cluster.c: those who say which server it is. */
void doctor_sentinels(struct doctor *d);
void doctor_cluster(struct doctor *d);
void doctor_unfollowed(struct doctor *d); /* nodes without replicas, all at once */
void doctor_slots(struct doctor *d);	  /* as one node sees them */
/* The value of a name in a list of names and values; "" where there is none. */
const char *sentinel_field(const struct reply *list, const char *name);
/* "a,b": the masters that it watches. Returns the same in words, where there is none, or we may not ask. */
const char *sentinel_names(struct redis *r, struct buf *out);
/* doctor_redis.c: the server. */
void doctor_redis(struct doctor *d);
void doctor_tls(struct doctor *d);
void doctor_version(struct doctor *d);
void doctor_role(struct doctor *d);
void doctor_persistence(struct doctor *d);
void doctor_eviction(struct doctor *d);
void doctor_memory(struct doctor *d);
void doctor_clients(struct doctor *d);
void doctor_replicas(struct doctor *d);
void doctor_latency(struct doctor *d);
void doctor_clock(struct doctor *d);
/* doctor_rights.c: what its ACL lets us do. */
void doctor_rights(struct doctor *d);
/* doctor_queues.c: what is in it. */
void doctor_types(struct doctor *d);
void doctor_writes(struct doctor *d);
void doctor_pauses(struct doctor *d);
void doctor_workers(struct doctor *d);
void doctor_leases(struct doctor *d);
void doctor_dead(struct doctor *d);
/* doctor_api.c: the services, by calls that cost nothing. */
void doctor_urls(struct doctor *d);
void doctor_certificates(struct doctor *d);
void doctor_translate(struct doctor *d);
void doctor_transcribe(struct doctor *d);
void doctor_synthesize(struct doctor *d);
void doctor_taskingai(struct doctor *d);
void doctor_close_api(struct doctor *d);

#endif
