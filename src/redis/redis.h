/* SPDX-License-Identifier: MIT
 *
 * One connection to Redis: the only code that knows hiredis.
 *
 * A connection belongs to one thread at a time (its owner says how it is locked). After an ERR_LINK it is finished: close it and
 * open another. Scripts are embedded in the program, loaded on every new connection, and run by hash.
 *
 * redis_open checks that what answers is a master of at least 6.2, so that a wrong address is told at once. */
#ifndef ADWUMA_REDIS_REDIS_H
#define ADWUMA_REDIS_REDIS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/err.h"

/* Where Redis is, made from redis_url and the settings that beat it. */
struct redis_address {
	char *host; /* NULL with a unix socket */
	int port;
	char *socket; /* NULL with TCP */
	int db;
	char *username; /* NULL: none */
	char *password; /* NULL: none */
};
/* username, password: NULL or what beats the URL's own. ERR_CONFIG with the reason alone, never with the URL's secret. */
int redis_address_parse(struct redis_address *out, const char *url, const char *username, const char *password,
			struct error *err);
void redis_address_release(struct redis_address *a);
/* "host:port" or the socket's path: for messages. */
void redis_address_show(const struct redis_address *a, char *out, size_t out_bytes);

struct redis;
#define REDIS_MIN_MAJOR 6 /* LMOVE and BLMOVE came with 6.2 */
#define REDIS_MIN_MINOR 2
#define REDIS_CONNECT_MS 5000
#define REDIS_REPLY_MS 10000 /* a healthy server answers far sooner; scripts of ours are bounded */

/* with_scripts: load the embedded scripts too. ERR_LINK: try again later. ERR_REFUSED: it answered and does not want us
 * (too old, no rights, wrong password). A LOADING, BUSY, MASTERDOWN or replica is ERR_LINK: it may pass. */
struct redis *redis_open(const struct redis_address *a, bool with_scripts, struct error *err);
void redis_close(struct redis *r); /* NULL is fine */
/* Connects and logs in, whoever answers: for those who want to know. Without scripts. */
struct redis *redis_open_any(const struct redis_address *a, struct error *err);
int redis_fd(const struct redis *r);
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
/* Next reply, waiting up to the connection's timeout. An error reply is a reply (reply_error). *out: returns owned. */
int redis_receive(struct redis *r, struct reply **out, struct error *err);
/* Reads what has come without waiting; *out NULL when no whole reply is there yet. */
int redis_poll(struct redis *r, struct reply **out, struct error *err);
int redis_set_timeout(struct redis *r, int64_t timeout_ms, struct error *err);
/* One command, one reply; an error reply is ERR_REFUSED with its text, or ERR_LINK for those that pass (reply_passes). The
 * key, which comes first, is named where it is of a wrong type. */
int redis_run(struct redis *r, struct redis_args *a, struct reply **out, struct error *err);
int redis_call(struct redis *r, struct reply **out, struct error *err, const char *fmt, ...);

void reply_free(struct reply *p);
const char *reply_error(const struct reply *p); /* text of an error reply, else NULL */
bool reply_passes(
	const struct reply *p); /* an error of Redis's state, not of our command: OOM, LOADING, READONLY, BUSY … */
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
