/* SPDX-License-Identifier: MIT
 *
 * The names of all keys of a queue: spelled here and nowhere else (contract section 2). Pure. */
#ifndef ADWUMA_QUEUE_KEYS_H
#define ADWUMA_QUEUE_KEYS_H

#include <stdbool.h>
#include <stddef.h>

#include "settings/settings.h"

#define KEY_PREFIX_MAX 64
#define WORKER_ID_MAX 96
#define KEY_MAX 512 /* prefix + queue + worker id or job id + the longest word between */

struct keys {
	char stem[KEY_PREFIX_MAX + QUEUE_NAME_MAX + 8]; /* "adwuma:{Q}:" */
	size_t stem_len;
	char ready[KEY_MAX], delayed[KEY_MAX], dead[KEY_MAX], dead_bytes[KEY_MAX], workers[KEY_MAX], paused[KEY_MAX],
		stats[KEY_MAX], cancelled[KEY_MAX], gone[KEY_MAX], billed[KEY_MAX];
};

void keys_init(struct keys *k, const char *prefix, const char *queue);
/* Each writes a NUL-terminated name into out and returns its length. */
size_t key_slot(const struct keys *k, const char *worker, unsigned n, char out[KEY_MAX]);
size_t key_worker(const struct keys *k, const char *worker, char out[KEY_MAX]);
size_t key_result(const struct keys *k, const char *id, char out[KEY_MAX]);
size_t key_reply(const struct keys *k, const char *name, char out[KEY_MAX]);
size_t key_audio(const struct keys *k, const char *id, char out[KEY_MAX]);
size_t key_stage(const struct keys *k, const char *worker, unsigned n, char out[KEY_MAX]);
size_t key_sent(const struct keys *k, const char *worker, unsigned n, char out[KEY_MAX]);
size_t key_pieces(const struct keys *k, const char *id, char out[KEY_MAX]);
size_t key_stream(const struct keys *k, const char *id, char out[KEY_MAX]);
size_t key_cursor(const struct keys *k, const char *id, char out[KEY_MAX]);
size_t key_doctor(const struct keys *k, const char *name, char out[KEY_MAX]);
size_t key_crashes(const struct keys *k, const char *hash, char out[KEY_MAX]);
/* Whether s is the whole name of an audio key of this or another queue under this prefix. */
bool key_is_audio(const struct keys *k, const char *s);

#endif
