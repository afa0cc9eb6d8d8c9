/* SPDX-License-Identifier: MIT
 *
 * A command under construction, in the form in which Redis reads it: a turn has hundreds of arguments, and hiredis's own writer cost more
 * instructions than all else that a turn does (measured). */
#include <stdio.h>
#include <string.h>

#include "redis/connection.h"

#define KEEP_BYTES (64UL * 1024)
#define LENGTH_MAX 24 /* "$", digits and line end */

void redis_args_release(struct redis_args *a)
{
	buf_release(&a->text);
}

void redis_args_clear(struct redis_args *a)
{
	a->n = a->key_len = 0;
	a->text.max = REDIS_COMMAND_BYTES_MAX;
	buf_trim(&a->text, KEEP_BYTES);
}

/* Writes n in decimal, returns the end. */
static char *put_size(char *to, size_t n)
{
	char digits[LENGTH_MAX];
	size_t i = sizeof digits;

	do
		digits[--i] = (char)('0' + n % 10);
	while ((n /= 10) > 0);
	memcpy(to, digits + i, sizeof digits - i);
	return to + (sizeof digits - i);
}

void redis_arg(struct redis_args *a, const char *s, size_t n)
{
	char *begin, *to;

	if (a->text.max == 0)
		redis_args_clear(a);
	begin = to = buf_reserve(&a->text, n + LENGTH_MAX + 4);
	if (!to)
		return;
	*to++ = '$';
	to = put_size(to, n);
	memcpy(to, "\r\n", 2);
	to += 2;
	if (a->n == 1) {
		a->key_at = a->text.len + (size_t)(to - begin);
		a->key_len = n;
	}
	if (n > 0)
		memcpy(to, s, n);
	memcpy(to + n, "\r\n", 3);
	a->text.len += (size_t)(to - begin) + n + 2;
	a->n++;
}

void redis_arg_str(struct redis_args *a, const char *s)
{
	redis_arg(a, s, strlen(s));
}

void redis_arg_int(struct redis_args *a, int64_t n)
{
	char digits[LENGTH_MAX];
	size_t sign = n < 0;

	digits[0] = '-';
	redis_arg(a, digits, (size_t)(put_size(digits + sign, sign ? 0 - (size_t)n : (size_t)n) - digits));
}

void redis_args_script(struct redis_args *a, const struct redis *r, enum redis_script s)
{
	redis_args_clear(a);
	redis_arg_str(a, "EVALSHA");
	redis_arg_str(a, r->sha[s]);
	a->key_len = 0;
}

size_t redis_args_head(const struct redis_args *a, char out[REDIS_HEAD_MAX])
{
	return (size_t)snprintf(out, REDIS_HEAD_MAX, "*%zu\r\n", a->n);
}
