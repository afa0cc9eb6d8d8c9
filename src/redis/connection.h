/* SPDX-License-Identifier: MIT
 *
 * Between the files of redis/ only: what a connection is, and how one is made.
 *
 *   address.c  redis_url              open.c     who to connect to, and the steps until it serves
 *   tls.c      rediss://              sentinel.c the master's address, asked of the sentinels
 *   watch.c    connections to a master that was replaced are cut
 *   cluster.c  which node has a key   routes.c   one connection for each node, by the keys of commands
 *   redis.c    commands and replies   args.c     a command under construction         reply.c  looking at a reply */
#ifndef ADWUMA_REDIS_CONNECTION_H
#define ADWUMA_REDIS_CONNECTION_H

#include <hiredis/hiredis.h>

#include "base/digest.h"
#include "redis/redis.h"

/* One of the two, c or routes, is there. */
struct redis {
	redisContext *c;
	struct routes *routes;
	struct ssl_st *ssl; /* OpenSSL's SSL, which is c's; NULL without TLS */
	bool in_cluster;    /* MOVED is no surprise */
	bool with_tls;
	struct redis_point peer;
	int64_t uptime_s, opened_ms;
	char run_id[REDIS_RUN_ID_MAX + 1];
	int64_t timeout_ms;	/* of a reply, as redis_set_timeout says */
	int64_t until_ms;	/* mono: then all that is asked must be answered; 0: timeout_ms holds, for each reply */
	size_t reply_bytes_max; /* of one; SIZE_MAX once it is open: results may be long */
	char sha[SCRIPTS][SHA1_HEX_LEN + 1];
	struct watch *watch; /* NULL: it is in no list; watch.c */
	struct redis *next, *before;
};

/* --- open.c ------------------------------------------------------------------------------------------------------------- */

#define OTHERS_REPLY_MS                                                                                                \
	5000 /* for a reply where another may take its place: one that hangs is left sooner than one that is alone */
#define SEEK_MS 2000 /* for one of several that can be asked: connecting, and then all answers together */
/* Of an answer while a connection is opened, or of who knows where the master is; CLUSTER SLOTS is the longest by far. */
#define ASKED_BYTES_MAX (8UL << 20)

enum open_steps {
	OPEN_LOGIN,   /* connect, log in */
	OPEN_MASTER,  /* and look whether it is a master that is new enough */
	OPEN_SCRIPTS, /* and load the scripts */
};
/* Who answers is of another kind; url: how it would be told. ERR_REFUSED. Returns -1. */
#define LIKELY_SENTINEL "probably a sentinel" /* it lacks a command that every Redis has, unless somebody renamed it */
int other_kind(struct error *err, const char *what, const char *url);
/* point NULL: the socket. limit_ms: for connecting, and then for all answers until it is open; after OPEN_LOGIN alone also for those to whatever is
 * asked then, unless redis_set_timeout gives them more. The error does not say where. */
struct redis *open_point(const struct redis_address *a, const struct redis_point *point, enum open_steps steps,
			 int64_t limit_ms, struct error *err);
struct timeval timeval_of_ms(int64_t ms);
/* To the master, as sentinels name it. */
struct redis *open_named(const struct redis_address *a, enum open_steps steps, struct error *err);

/* --- redis.c ------------------------------------------------------------------------------------------------------------ */

/* Once a reply has begun, its timeout and the time that it takes at this rate; far below what any link has that is of use. */
#define REPLY_BYTES_PER_MS_MIN 4
/* What is read next waits no longer than until_ms. */
int hurry(struct redis *r, struct error *err);
/* Whole commands as text, to a connection that is not routed. */
int append_text(struct redis *r, const char *text, size_t n, struct error *err);
#define REDIS_HEAD_MAX 32
/* The line that stands before the arguments. Returns its length. */
size_t redis_args_head(const struct redis_args *a, char out[REDIS_HEAD_MAX]);
static inline bool is_port(int64_t n)
{
	return n >= 1 && n <= 65535;
}
/* "host:port" behind the first n words of a MOVED or an ASK; an empty host, or ?, is from's. False: it is none. */
bool point_of_redirection(const char *text, const struct redis_point *from, unsigned *slot, struct redis_point *out);

/* --- tls.c -------------------------------------------------------------------------------------------------------------- */

/* The files are read once. Returns owned; NULL with ERR_CONFIG, also where this build has no TLS. Any thread may use it. */
struct redis_tls *redis_tls_new(const struct redis_options *o, struct error *err);
void redis_tls_free(struct redis_tls *t);
/* On a fresh connection, r->c. ERR_REFUSED where the certificate is not accepted. */
int redis_tls_begin(const struct redis_tls *t, struct redis *r, const char *host, struct error *err);
bool redis_tls_has_certificate(const struct redis_tls *t); /* one of ours, to show */
/* Why TLS ended this thread's last connection, like "tlsv13 alert certificate required"; NULL: it does not say. */
const char *redis_tls_says(void);

/* --- sentinel.c --------------------------------------------------------------------------------------------------------- */

/* *next: the first that is asked; afterwards the one behind that which answered. ERR_REFUSED: they answer, and know no such master. */
int sentinel_ask(const struct redis_address *a, size_t *next, struct redis_point *master, struct error *err);

/* --- watch.c ------------------------------------------------------------------------------------------------------------ */

struct watch *watch_new(void);
void watch_free(struct watch *w); /* NULL is fine; waits for its thread. No connection may be left. */
/* r, just opened by a, which stays where it is: it is cut when sentinels name another master. */
void watch_add(const struct redis_address *a, struct redis *r);
void watch_remove(struct redis *r); /* before it is closed */

/* --- cluster.c ---------------------------------------------------------------------------------------------------------- */

struct cluster *cluster_new(void);
void cluster_free(struct cluster *c);
/* Asks nodes, each time another first, until one tells who has what. */
int cluster_ask(const struct redis_address *a, struct error *err);
unsigned cluster_slot(const char *key, size_t n);
/* The n-th node that has slots, from 0; the node of a slot. False: there is none, as far as is known. */
bool cluster_master(struct cluster *c, size_t n, struct redis_point *out);
bool cluster_node(struct cluster *c, unsigned slot, struct redis_point *out);
void cluster_moved(struct cluster *c, unsigned slot, const struct redis_point *to);

/* --- routes.c ----------------------------------------------------------------------------------------------------------- */

/* How the error replies begin that are made here for a node that does not answer. Redis's own begin with a word in capitals. */
#define NODE_AWAY "node "
#define NODE_NONE "no node "
int routes_open(struct redis *r, const struct redis_address *a, bool with_scripts, struct error *err);
void routes_free(struct routes *t);
/* text: one whole command. */
int routes_append(struct routes *t, const char *text, size_t n, struct error *err);
int routes_flush(struct routes *t, struct error *err);
int routes_receive(struct routes *t, struct reply **out, struct error *err);
/* One command, one reply, wherever that leads. */
int routes_run(struct routes *t, const char *text, size_t n, struct reply **out, struct error *err);
int routes_set_timeout(struct routes *t, int64_t timeout_ms, struct error *err);
const struct redis_point *routes_peer(const struct routes *t);

#endif
