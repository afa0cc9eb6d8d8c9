/* SPDX-License-Identifier: MIT
 *
 * Looking at a reply. struct reply is hiredis' redisReply behind an opaque name: a reply and its parts are freed together by
 * reply_free() of the outermost. Every accessor takes NULL and replies of another type, and then says "nothing". */
#include "redis/redis.h"

#include <stdlib.h>
#include <string.h>

#include "redis/connection.h"

static const redisReply *raw(const struct reply *p)
{
	return (const redisReply *)(const void *)p;
}

void reply_free(struct reply *p)
{
	if (p)
		freeReplyObject(p);
}

const char *reply_error(const struct reply *p)
{
	return p && raw(p)->type == REDIS_REPLY_ERROR ? raw(p)->str : NULL;
}

/* Redis 6.2 tells what a command in a script met as "ERR Error running script (call to f_SHA): @user_script:1: … : -READONLY …". */
static const char *first_cause(const char *text)
{
	static const char around[] = "ERR Error running script";
	const char *inner = strncmp(text, around, sizeof around - 1) == 0 ? strstr(text, ": -") : NULL;

	return inner ? inner + 3 : *text == '-' ? text + 1 : text;
}

static bool is_one_of(const struct reply *p, const char *const *words, size_t n)
{
	const char *text = reply_error(p) ? first_cause(reply_error(p)) : NULL;

	for (size_t i = 0; text && i < n; i++)
		if (strncmp(text, words[i], strlen(words[i])) == 0)
			return true;
	return false;
}

bool reply_is_elsewhere(const struct reply *p)
{
	static const char *const elsewhere[] = {"MOVED ", "ASK ", "TRYAGAIN", "CLUSTERDOWN", NODE_AWAY, NODE_NONE};

	return is_one_of(p, elsewhere, sizeof elsewhere / sizeof *elsewhere);
}

bool reply_leaves_open(const struct reply *p)
{
	static const char *const nobody[] = {"CLUSTERDOWN", NODE_AWAY, NODE_NONE};

	return is_one_of(p, nobody, sizeof nobody / sizeof *nobody);
}

bool reply_passes(const struct reply *p)
{
	/* Redis's own state, not our command, is in the way; NOSCRIPT passes because a new connection loads the scripts again. */
	static const char *const passing[] = {"LOADING",    "BUSY",
					      "READONLY",   "OOM",
					      "MISCONF",    "MASTERDOWN",
					      "NOREPLICAS", "NOSCRIPT",
					      "UNBLOCKED",  "ERR max number of clients"};

	return is_one_of(p, passing, sizeof passing / sizeof *passing) || reply_is_elsewhere(p);
}

bool reply_is_nil(const struct reply *p)
{
	return !p || raw(p)->type == REDIS_REPLY_NIL;
}

static bool has_bytes(const struct reply *p)
{
	return p && (raw(p)->type == REDIS_REPLY_STRING || raw(p)->type == REDIS_REPLY_STATUS) && raw(p)->str;
}

const char *reply_bytes(const struct reply *p, size_t *len)
{
	if (!has_bytes(p))
		return NULL;
	if (len)
		*len = (size_t)raw(p)->len;
	return raw(p)->str;
}

char *reply_steal(struct reply *p, size_t *len)
{
	redisReply *r = (redisReply *)(void *)p;
	char *s;

	if (!has_bytes(p))
		return NULL;
	s = r->str;
	*len = (size_t)r->len;
	r->str = NULL;
	r->len = 0;
	r->type = REDIS_REPLY_NIL;
	return s;
}

int64_t reply_int(const struct reply *p, int64_t otherwise)
{
	char *end;
	long long n;

	if (p && raw(p)->type == REDIS_REPLY_INTEGER)
		return raw(p)->integer;
	if (!has_bytes(p))
		return otherwise;
	n = strtoll(raw(p)->str, &end, 10);
	return end != raw(p)->str ? n : otherwise;
}

size_t reply_count(const struct reply *p)
{
	return p && raw(p)->type == REDIS_REPLY_ARRAY ? raw(p)->elements : 0;
}

struct reply *reply_at(const struct reply *p, size_t i)
{
	return i < reply_count(p) ? (struct reply *)(void *)raw(p)->element[i] : NULL;
}
