/* SPDX-License-Identifier: MIT
 *
 * Connections to Redis: the only code that knows hiredis, and the only one that knows that Redis may be more than one process.
 *
 * A connection belongs to one thread at a time (its owner says how it is locked). After an ERR_LINK it is finished: close it and
 * open another. Scripts are embedded in the program, loaded on every new connection, and run by hash.
 *
 * redis_open gives one connection to the process that holds a key: the only one, or the master that the sentinels name, or the cluster's node.
 * That is asked anew at every call, so whoever closes what broke and opens another follows a failover; a connection to a master that sentinels
 * have replaced is broken for that. It checks that what answers is a master of at least 6.2, so that a wrong address is told at once.
 *
 * redis_open_routed gives one that goes to each command's node by its key, for those who deal with many queues. Where Redis is one process, the
 * two are the same. */
#ifndef ADWUMA_REDIS_REDIS_H
#define ADWUMA_REDIS_REDIS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

#define REDIS_HOST_MAX 255
#define REDIS_POINTS_MAX 64 /* sentinels, or first nodes of a cluster, in a URL */

struct redis_point {
	char host[REDIS_HOST_MAX + 1];
	int port;
};

enum redis_kind {
	REDIS_ALONE,	/* one process; points[0] is it, where there is no socket */
	REDIS_SENTINEL, /* points are sentinels, who know the master by its name */
	REDIS_CLUSTER,	/* points are some of its nodes */
};

/* Where Redis is, made from redis_url and the settings that beat it. Read-only once it is made, but for what is locked inside; any thread.
 * It stays where it is once a connection was opened, and is released after the last is closed. */
struct redis_address {
	enum redis_kind kind;
	struct redis_point *points;
	size_t npoints;
	char *socket; /* NULL with TCP */
	char *master; /* its name; NULL without sentinels */
	int db;
	char *username;		 /* NULL: none */
	char *password;		 /* NULL: none */
	struct redis_tls *tls;	 /* NULL: plain */
	struct cluster *cluster; /* NULL where there is none */
	struct watch *watch;	 /* of the connections; NULL without sentinels */
};
/* What beats the URL's own, and what rediss:// needs; NULL: none. */
struct redis_options {
	const char *username, *password;
	const char *ca_file; /* NULL: those that the system trusts */
	const char *cert_file, *key_file;
};
/* ERR_CONFIG with the reason alone, never with the URL's secret. options: NULL is fine. */
int redis_address_parse(struct redis_address *out, const char *url, const struct redis_options *options,
			struct error *err);
void redis_address_release(struct redis_address *a);
/* "host:port". */
void point_show(const struct redis_point *p, char *out, size_t out_bytes);
/* "host:port", the socket's path, "NAME by host:port,…", "cluster host:port,…": for messages. */
void redis_address_show(const struct redis_address *a, char *out, size_t out_bytes);
struct redis;
/* The same of a connection: "host:port of NAME by host:port,…" says who of several it is to. r NULL: none is there. */
void redis_show(const struct redis_address *a, const struct redis *r, char *out, size_t out_bytes);
/* Whether keys of different queues may be on different processes: then one connection does not serve all. */
bool redis_spreads(const struct redis_address *a);
/* Whether this build can speak TLS to Redis. */
bool redis_has_tls(void);

#define REDIS_MIN_MAJOR 6 /* LMOVE and BLMOVE came with 6.2 */
#define REDIS_MIN_MINOR 2
#define REDIS_CONNECT_MS 5000
#define REDIS_REPLY_MS 10000 /* a healthy server answers far sooner; scripts of ours are bounded */

/* To the process that holds key; NULL: to any master. with_scripts: load the embedded scripts too. ERR_LINK: try again later. ERR_REFUSED: it
 * answered and does not want us (too old, no rights, wrong password). A LOADING, BUSY, MASTERDOWN, MOVED or replica is ERR_LINK: it may pass. */
struct redis *redis_open(const struct redis_address *a, const char *key, bool with_scripts, struct error *err);
/* To all of them, each when it is first needed. A command goes to the node of its first argument that has a hash tag, in braces; one without
 * to any. A node that cannot be reached answers for its keys with an error reply that passes (reply_passes), while those of others are served;
 * it is looked for anew later. redis_run and redis_call follow MOVED and ASK; replies read one by one may be such errors, and pass. MULTI is refused: what
 * follows it would go to other nodes, and be carried out there. */
struct redis *redis_open_routed(const struct redis_address *a, bool with_scripts, struct error *err);
void redis_close(struct redis *r); /* NULL is fine */
/* For those who want to know who is there. Each connects and logs in, whoever answers; the error does not say where. point NULL: the socket.
 * What is asked then must be answered soon, all of it; redis_set_timeout gives each answer a time of its own. */
struct redis *redis_open_at(const struct redis_address *a, const struct redis_point *point, struct error *err);
/* *with_login: it asked for a password, and was given that of its master. */
struct redis *redis_open_sentinel(const struct redis_address *a, const struct redis_point *point, bool *with_login,
				  struct error *err);
/* To whom redis_open would connect for each of these keys, of one answer. A port of 0: nobody has its slot, or it is the socket. */
int redis_find(const struct redis_address *a, const char *const *keys, size_t n, struct redis_point *points,
	       struct error *err);

struct redis_tls_facts {
	const char *version, *cipher; /* constants of OpenSSL's */
	int64_t until_s;	      /* Unix time: until then the server's certificate is valid; 0: not told */
};
/* False: it is a connection without TLS, or one that is routed. */
bool redis_tls_facts(const struct redis *r, struct redis_tls_facts *out);
int redis_fd(const struct redis *r); /* -1 of a routed one in a cluster */
/* Who it is connected to; any of them, where routed. NULL: a socket. */
const struct redis_point *redis_peer(const struct redis *r);
/* Of the server's process, anew each time it begins; "": not told. Only where two connections have the same an id that it gave to one means that one to
 * the other. */
#define REDIS_RUN_ID_MAX 40
const char *redis_run_id(const struct redis *r);
int64_t redis_opened_ms(const struct redis *r); /* clock_mono_ms when the connection was made */
int64_t redis_uptime_s(const struct redis *r);	/* of the server when the connection was made */

#define REDIS_COMMAND_BYTES_MAX (1UL << 30) /* Redis reads no longer one (client-query-buffer-limit) */

/* A command under construction; all zero is an empty one. Values are copied. Running out of memory, or a command that is too long, is kept
 * and told by redis_append. */
struct redis_args {
	struct buf text; /* the arguments, each with its length before it */
	size_t n;
	size_t key_at, key_len; /* in text: the first key, for error messages; none where key_len is 0 */
};
void redis_args_release(struct redis_args *a); /* also of one all zero */
void redis_args_clear(struct redis_args *a);
void redis_arg(struct redis_args *a, const char *s, size_t n);
void redis_arg_str(struct redis_args *a, const char *s);
void redis_arg_int(struct redis_args *a, int64_t n);

/* Puts a command into the output buffer. */
int redis_append(struct redis *r, struct redis_args *a, struct error *err);
int redis_appendf(struct redis *r, struct error *err, const char *fmt, ...); /* hiredis format: %s %b %lld */
int redis_flush(struct redis *r, struct error *err);

struct reply;
/* Next reply, waiting up to the connection's timeout until it begins, and for as long again, and longer the longer it is, for the rest. An error reply is a reply (reply_error). *out: returns owned. */
int redis_receive(struct redis *r, struct reply **out, struct error *err);
/* The same where an error reply is an error, as in redis_run. */
int redis_expect(struct redis *r, struct reply **out, struct error *err);
/* Keeps in *first, where none is yet, that a reply is an error, as redis_expect tells it: for those who read many replies to their end. */
void redis_note_error(const struct redis *r, const struct reply *p, struct error *first);
/* Reads what has come without waiting; *out NULL when no whole reply is there yet. Not of a routed one in a cluster. */
int redis_poll(struct redis *r, struct reply **out, struct error *err);
int redis_set_timeout(struct redis *r, int64_t timeout_ms, struct error *err);
/* One command, one reply; an error reply is ERR_REFUSED with its text, or ERR_LINK for those that pass (reply_passes). The
 * key, which comes first, is named where it is of a wrong type. */
int redis_run(struct redis *r, struct redis_args *a, struct reply **out, struct error *err);
int redis_call(struct redis *r, struct reply **out, struct error *err, const char *fmt, ...);

void reply_free(struct reply *p);
const char *reply_error(const struct reply *p); /* text of an error reply, else NULL */
bool reply_passes(
	const struct reply *p); /* an error of Redis's state, not of our command: OOM, LOADING, READONLY, MOVED … */
bool reply_is_elsewhere(const struct reply *p); /* one of those: another process has the key, now or soon */
bool reply_leaves_open(
	const struct reply *p); /* one of those: nobody serves the key, and what was asked may have been done before */
bool reply_is_nil(const struct reply *p);
const char *reply_bytes(const struct reply *p, size_t *len); /* of a string or status; NULL otherwise */
char *reply_steal(struct reply *p, size_t *len); /* the string's memory, returns owned (free()); NULL if it is none */
int64_t reply_int(const struct reply *p, int64_t otherwise); /* of an integer, or a string that is one */
size_t reply_count(const struct reply *p);		     /* of an array, else 0 */
struct reply *reply_at(const struct reply *p, size_t i);     /* borrowed; NULL beyond the end */

/* The value of "name:" in the text that INFO gives, up to its line's end; NULL where there is none. */
const char *redis_info_value(const char *info, const char *name);

/* The embedded scripts (src/lua). */
enum redis_script {
	SCRIPT_TURN,
	SCRIPT_TICK,
	SCRIPT_LEAVE,
	SCRIPT_STAGE,
	SCRIPT_PIECE,
	SCRIPT_STREAM,
	SCRIPT_EXHUME,
	SCRIPTS
};
/* Starts an EVALSHA: the caller adds the number of keys, keys and arguments. */
void redis_args_script(struct redis_args *a, const struct redis *r, enum redis_script s);

#endif
