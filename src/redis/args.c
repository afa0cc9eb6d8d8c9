/* SPDX-License-Identifier: MIT
 *
 * A command under construction: pointers and lengths, in arrays that are kept and reused, so that a batch of hundreds of arguments
 * costs no allocation. */
#include "redis/redis.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "redis/connection.h"

void redis_args_release(struct redis_args *a)
{
	free(a->argv);
	free(a->len);
	free(a->digits);
	*a = (struct redis_args){0};
}

void redis_args_clear(struct redis_args *a)
{
	a->n = 0;
	a->failed = false;
}

static bool grow(struct redis_args *a)
{
	size_t cap = a->cap ? a->cap * 2 : 32;
	void *argv = realloc(a->argv, cap * sizeof *a->argv);
	void *len = argv ? realloc(a->len, cap * sizeof *a->len) : NULL;
	void *digits = len ? realloc(a->digits, cap * sizeof *a->digits) : NULL;

	if (argv)
		a->argv = argv;
	if (len)
		a->len = len;
	if (digits) {
		a->digits = digits;
		a->cap = cap;
	}
	a->failed = !digits;
	return digits;
}

void redis_arg(struct redis_args *a, const char *s, size_t n)
{
	if (a->failed || (a->n == a->cap && !grow(a)))
		return;
	a->argv[a->n] = s ? s : "";
	a->len[a->n++] = n;
}

void redis_arg_str(struct redis_args *a, const char *s)
{
	redis_arg(a, s, strlen(s));
}

void redis_arg_int(struct redis_args *a, int64_t n)
{
	size_t i = a->n;

	redis_arg(a, "", 0);
	if (a->failed)
		return;
	a->argv[i] = NULL;
	a->len[i] = (size_t)snprintf(a->digits[i], sizeof *a->digits, "%lld", (long long)n);
}

void redis_args_script(struct redis_args *a, const struct redis *r, enum redis_script s)
{
	redis_args_clear(a);
	redis_arg_str(a, "EVALSHA");
	redis_arg_str(a, redis_script_sha(r, s));
}

/* Numbers get their address only now: growing may have moved their digits. */
void redis_args_resolve(struct redis_args *a)
{
	for (size_t i = 0; i < a->n; i++)
		if (!a->argv[i])
			a->argv[i] = a->digits[i];
}
