/* SPDX-License-Identifier: MIT
 *
 * A turn: the one script call that settles jobs and claims new ones (src/lua/turn.lua). There is one way for a job to end, and this is it:
 * commits, retries, hand-backs, reaping and give-ups are all settlements.
 *
 * Ownership: what a settlement points to is borrowed until the turn is written. Pure: sending is the caller's. */
#ifndef ADWUMA_QUEUE_TURN_H
#define ADWUMA_QUEUE_TURN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/units.h"
#include "queue/keys.h"
#include "redis/redis.h"

#define TURN_SETTLE_MAX 64 /* more brings nothing (measured: 11 us of Redis a job from 32 on) */
#define TURN_CLAIM_MAX 128
#define TURN_BYTES_MAX (1024 * 1024) /* of payloads claimed, and of bodies settled, in one trip */

enum settle_how {
	SETTLE_RESULT,	  /* body is the result; also reply, audio, dead */
	SETTLE_LATER,	  /* body goes to delayed, due in number ms */
	SETTLE_UNTIL,	  /* body goes to delayed, due at number */
	SETTLE_BACK,	  /* the payload goes back to ready, to be served next */
	SETTLE_DUPLICATE, /* dropped: its id has a result already */
	SETTLE_DEAD,	  /* only the dead entry: there is no id to write a result for */
};

struct settlement {
	enum settle_how how;
	const char *worker; /* whose slot */
	unsigned slot;
	const char *payload; /* what the slot must hold */
	size_t payload_len;
	const char *outcome; /* counter in stats, "" for none */
	const char *id;	     /* SETTLE_RESULT, SETTLE_DUPLICATE */
	const char *reply;   /* "" for none */
	bool audio;	     /* staged under (worker, slot); becomes audio:<id> */
	bool forget_pieces;  /* SETTLE_RESULT: pieces:<id> is deleted */
	bool streams; /* SETTLE_RESULT: stream:<id> ends with the value; SETTLE_LATER: it goes on with a restart */
	size_t value_from,
		value_to; /* SETTLE_RESULT: the value of result or error in body, from its first byte to behind its last */
	int64_t next_attempt, stream_ttl_ms; /* SETTLE_LATER */
	const char *body;
	size_t body_len;
	int64_t number;	  /* result's time to live, delay, due time, or how long a crash is remembered, in ms */
	const char *dead; /* NULL: no dead entry */
	size_t dead_len;
	const char *crash_hash; /* SETTLE_BACK: NULL, or count a crash under this hash */
};

struct turn_request {
	const char *worker; /* who claims */
	const char *victim; /* "" or the worker being reaped: nothing is done unless its lease has run out */
	bool repeated;	    /* this very turn may have been carried out before: its reply was lost */
	const struct settlement *settle;
	size_t nsettle;
	const unsigned *slots; /* to fill */
	size_t nslots;
	int64_t dead_max_jobs, dead_max_bytes;
	struct units billed; /* what was sent for the jobs that are settled */
};

/* How a script is told which job a slot must hold: the payload, or its SHA-1 where it is large. */
void turn_add_identity(struct redis_args *args, const char *payload, size_t len);
/* Writes the command, ready for redis_append. */
void turn_write(struct redis_args *args, const struct redis *r, const struct keys *k, const struct turn_request *q);

enum settled {
	SETTLED_DONE = '1',
	SETTLED_FENCED = 'f',
	SETTLED_DUPLICATE = 'd',
	SETTLED_NOT_DUPLICATE = 'n',
	SETTLED_WRONG_TYPE = 'w',
	SETTLED_WRONG_REPLY = 'y',
	SETTLED_STAGE_GONE = 's',
};
enum claim_state {
	CLAIM_FULL = 0,
	CLAIM_EMPTY = 'e',
	CLAIM_BYTES = 'b',
	CLAIM_UNLISTED = 'u',
	CLAIM_PAUSED = 'p',
	CLAIM_REFUSED = 'o',
	CLAIM_VICTIM_ALIVE = 'a',
};
struct turn_answer {
	const char *letters; /* one enum settled for each settlement; borrowed from the reply */
	enum claim_state state;
	bool any_cancelled; /* some id is cancelled; told where slots were to be filled */
	size_t nclaimed;    /* payload i: reply_at(reply, TURN_FIRST_PAYLOAD + i) */
};
#define TURN_FIRST_PAYLOAD 3
int turn_read(const struct reply *reply, const struct turn_request *q, struct turn_answer *out, struct error *err);

#endif
