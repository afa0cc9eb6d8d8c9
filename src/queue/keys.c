/* SPDX-License-Identifier: MIT
 *
 * See keys.h. Lengths cannot overflow: prefix, queue, worker id and job id are bounded where they come in, and KEY_MAX holds them all. */
#include "queue/keys.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#define JOB_NAME_MAX 128 /* a job's id, a reply list's name */

_Static_assert(KEY_PREFIX_MAX + QUEUE_NAME_MAX + WORKER_ID_MAX + JOB_NAME_MAX + 64 < KEY_MAX, "a key's parts fit");

static char *put(char *to, const char *s, size_t n)
{
	memcpy(to, s, n);
	return to + n;
}

/* By memcpy: three names are made for every job, and snprintf would be a tenth of our own work. */
static size_t join(const struct keys *k, const char *word, const char *name, char out[KEY_MAX])
{
	char *end = put(out, k->stem, k->stem_len);

	end = put(end, word, strlen(word));
	end = put(end, name, strnlen(name, WORKER_ID_MAX + JOB_NAME_MAX));
	*end = '\0';
	return (size_t)(end - out);
}

void keys_init(struct keys *k, const char *prefix, const char *queue)
{
	k->stem_len = (size_t)snprintf(k->stem, sizeof k->stem, "%s:{%s}:", prefix, queue);
	join(k, "ready", "", k->ready);
	join(k, "delayed", "", k->delayed);
	join(k, "dead", "", k->dead);
	join(k, "dead_bytes", "", k->dead_bytes);
	join(k, "workers", "", k->workers);
	join(k, "paused", "", k->paused);
	join(k, "stats", "", k->stats);
	join(k, "cancelled", "", k->cancelled);
	join(k, "gone", "", k->gone);
	join(k, "billed", "", k->billed);
}

static size_t numbered(const struct keys *k, const char *word, const char *worker, unsigned n, char out[KEY_MAX])
{
	char digits[12];
	size_t i = sizeof digits, len = join(k, word, worker, out);

	digits[--i] = '\0';
	do
		digits[--i] = (char)('0' + n % 10);
	while ((n /= 10) > 0);
	digits[--i] = ':';
	memcpy(out + len, digits + i, sizeof digits - i);
	return len + sizeof digits - i - 1;
}

size_t key_slot(const struct keys *k, const char *worker, unsigned n, char out[KEY_MAX])
{
	return numbered(k, "slot:", worker, n, out);
}

size_t key_stage(const struct keys *k, const char *worker, unsigned n, char out[KEY_MAX])
{
	return numbered(k, "stage:", worker, n, out);
}

size_t key_sent(const struct keys *k, const char *worker, unsigned n, char out[KEY_MAX])
{
	return numbered(k, "sent:", worker, n, out);
}

size_t key_worker(const struct keys *k, const char *worker, char out[KEY_MAX])
{
	return join(k, "worker:", worker, out);
}

size_t key_result(const struct keys *k, const char *id, char out[KEY_MAX])
{
	return join(k, "result:", id, out);
}

size_t key_reply(const struct keys *k, const char *name, char out[KEY_MAX])
{
	return join(k, "reply:", name, out);
}

size_t key_audio(const struct keys *k, const char *id, char out[KEY_MAX])
{
	return join(k, "audio:", id, out);
}

size_t key_pieces(const struct keys *k, const char *id, char out[KEY_MAX])
{
	return join(k, "pieces:", id, out);
}

size_t key_stream(const struct keys *k, const char *id, char out[KEY_MAX])
{
	return join(k, "stream:", id, out);
}

size_t key_cursor(const struct keys *k, const char *id, char out[KEY_MAX])
{
	return join(k, "cursor:", id, out);
}

size_t key_crashes(const struct keys *k, const char *hash, char out[KEY_MAX])
{
	return join(k, "crashes:", hash, out);
}

size_t key_doctor(const struct keys *k, const char *name, char out[KEY_MAX])
{
	return join(k, "doctor:", name, out);
}

/* prefix:{queue}:audio:name, where prefix is ours and queue and name are anything but empty. */
bool key_is_audio(const struct keys *k, const char *s)
{
	size_t prefix = (size_t)(strchr(k->stem, '{') - k->stem); /* with the colon */
	const char *close;

	if (strncmp(s, k->stem, prefix) != 0 || s[prefix] != '{')
		return false;
	s += prefix + 1;
	close = strchr(s, '}');
	if (!close || close == s || (size_t)(close - s) > QUEUE_NAME_MAX)
		return false;
	return strncmp(close, "}:audio:", 8) == 0 && close[8] != '\0';
}
