/* SPDX-License-Identifier: MIT
 *
 * Writing the arguments of turn.lua in the order its header fixes, and reading its answer. */
#include "queue/turn.h"

#include <stdio.h>
#include <string.h>

#include "base/digest.h"

#define QUEUE_KEYS 9
/* Payloads longer than this are named by their SHA-1, so that they are not sent back to Redis. */
#define IDENTITY_BYTES_MAX 1024

static void add_slot(struct redis_args *args, const struct keys *k, const char *worker, unsigned slot)
{
	char name[KEY_MAX];

	redis_arg(args, name, key_slot(k, worker, slot, name));
}

static bool tells_stream(const struct settlement *s)
{
	return s->streams && (s->how == SETTLE_RESULT || s->how == SETTLE_LATER);
}

static void add_settlement_keys(struct redis_args *args, const struct keys *k, const struct settlement *s)
{
	char name[KEY_MAX];

	add_slot(args, k, s->worker, s->slot);
	if (s->how == SETTLE_RESULT || s->how == SETTLE_DUPLICATE)
		redis_arg(args, name, key_result(k, s->id, name));
	if (s->how == SETTLE_RESULT) {
		if (*s->reply)
			redis_arg(args, name, key_reply(k, s->reply, name));
		if (s->audio) {
			redis_arg(args, name, key_stage(k, s->worker, s->slot, name));
			redis_arg(args, name, key_audio(k, s->id, name));
		}
	}
	if (s->how == SETTLE_RESULT && s->forget_pieces)
		redis_arg(args, name, key_pieces(k, s->id, name));
	if (tells_stream(s)) {
		redis_arg(args, name, key_stream(k, s->id, name));
		redis_arg(args, name, key_cursor(k, s->id, name));
	}
	if (s->how == SETTLE_BACK && s->crash_hash)
		redis_arg(args, name, key_crashes(k, s->crash_hash, name));
}

static void add_how(struct redis_args *args, const struct settlement *s)
{
	static const char letters[] = {[SETTLE_RESULT] = 'R', [SETTLE_LATER] = 'L',	[SETTLE_UNTIL] = 'U',
				       [SETTLE_BACK] = 'B',   [SETTLE_DUPLICATE] = 'D', [SETTLE_DEAD] = 'X'};
	char how[64];
	size_t n = 0;

	how[n++] = letters[s->how];
	if (s->how == SETTLE_RESULT) {
		if (*s->reply)
			how[n++] = 'p';
		if (s->audio)
			how[n++] = 'a';
		if (s->forget_pieces)
			how[n++] = 'f';
		if (s->dead)
			how[n++] = 'd';
	}
	if (s->how == SETTLE_BACK && s->crash_hash)
		how[n++] = 'c';
	if (tells_stream(s))
		n += (size_t)snprintf(how + n, sizeof how - n, "s%lld,%lld",
				      s->how == SETTLE_LATER ? (long long)s->next_attempt
							     : (long long)s->value_from + 1,
				      s->how == SETTLE_LATER ? (long long)s->stream_ttl_ms : (long long)s->value_to);
	redis_arg(args, how, n);
}

void turn_add_identity(struct redis_args *args, const char *payload, size_t len)
{
	char hash[1 + SHA1_HEX_LEN + 1] = "#";

	if (len <= IDENTITY_BYTES_MAX && (len == 0 || payload[0] != '#')) {
		redis_arg(args, payload, len);
		return;
	}
	sha1_hex(payload, len, hash + 1);
	redis_arg(args, hash, sizeof hash - 1);
}

static void add_settlement(struct redis_args *args, const struct settlement *s)
{
	add_how(args, s);
	turn_add_identity(args, s->payload, s->payload_len);
	redis_arg_str(args, s->outcome);
	redis_arg(args, s->body, s->body ? s->body_len : 0);
	redis_arg_int(args, s->number);
	if (s->how == SETTLE_LATER)
		redis_arg_str(args, s->id);
	else
		redis_arg(args, s->dead, s->dead ? s->dead_len : 0);
}

static size_t count_keys(const struct turn_request *q)
{
	size_t n = QUEUE_KEYS + q->nslots;

	for (size_t i = 0; i < q->nsettle; i++) {
		const struct settlement *s = &q->settle[i];
		bool result = s->how == SETTLE_RESULT;

		n += 1U + (result || s->how == SETTLE_DUPLICATE) + (result && *s->reply) +
		     (result && s->audio ? 2U : 0U) + (result && s->forget_pieces) + (tells_stream(s) ? 2U : 0U) +
		     (s->how == SETTLE_BACK && s->crash_hash);
	}
	return n;
}

void turn_write(struct redis_args *args, const struct redis *r, const struct keys *k, const struct turn_request *q)
{
	const char *const fixed[QUEUE_KEYS] = {k->stats, k->workers,	k->ready,     k->paused, k->delayed,
					       k->dead,	 k->dead_bytes, k->cancelled, k->billed};

	redis_args_script(args, r, SCRIPT_TURN);
	redis_arg_int(args, (int64_t)count_keys(q));
	for (size_t i = 0; i < QUEUE_KEYS; i++)
		redis_arg_str(args, fixed[i]);
	for (size_t i = 0; i < q->nsettle; i++)
		add_settlement_keys(args, k, &q->settle[i]);
	for (size_t i = 0; i < q->nslots; i++)
		add_slot(args, k, q->worker, q->slots[i]);
	redis_arg_str(args, q->worker);
	redis_arg_str(args, q->victim);
	redis_arg_str(args, q->repeated ? "1" : "0");
	redis_arg_int(args, (int64_t)q->nsettle);
	redis_arg_int(args, (int64_t)q->nslots);
	redis_arg_int(args, TURN_BYTES_MAX);
	redis_arg_int(args, q->dead_max_jobs);
	redis_arg_int(args, q->dead_max_bytes);
	for (int i = 0; i < UNITS; i++)
		redis_arg_int(args, q->billed.n[i]);
	for (size_t i = 0; i < q->nsettle; i++)
		add_settlement(args, &q->settle[i]);
}

/* A worker takes each payload's memory, and looks at a letter for each settlement: nothing else may pass. */
static bool has_shape(const struct reply *reply, const struct turn_request *q)
{
	size_t nletters = 0, nstate = 0, n = reply_count(reply);
	const char *letters = reply_bytes(reply_at(reply, 0), &nletters);
	const char *state = reply_bytes(reply_at(reply, 1), &nstate);

	if (!letters || !state || nstate > 1 || n < TURN_FIRST_PAYLOAD || n > TURN_FIRST_PAYLOAD + q->nslots)
		return false;
	for (size_t i = TURN_FIRST_PAYLOAD; i < n; i++)
		if (!reply_bytes(reply_at(reply, i), NULL))
			return false;
	switch ((enum claim_state) * state) {
	case CLAIM_FULL:
	case CLAIM_EMPTY:
	case CLAIM_BYTES:
	case CLAIM_UNLISTED:
	case CLAIM_PAUSED:
	case CLAIM_REFUSED:
		return nletters == q->nsettle;
	case CLAIM_VICTIM_ALIVE:
		return *q->victim;
	}
	return false;
}

int turn_read(const struct reply *reply, const struct turn_request *q, struct turn_answer *out, struct error *err)
{
	if (!has_shape(reply, q))
		return error_set(err, ERR_REFUSED,
				 "the turn script gave an answer of another shape: is another program using our keys?");
	*out = (struct turn_answer){
		.letters = reply_bytes(reply_at(reply, 0), NULL),
		.state = (enum claim_state) * reply_bytes(reply_at(reply, 1), NULL),
		.any_cancelled = reply_int(reply_at(reply, 2), 0) != 0,
		.nclaimed = reply_count(reply) - TURN_FIRST_PAYLOAD,
	};
	return 0;
}
