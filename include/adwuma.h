/* SPDX-License-Identifier: MIT
 *
 * adwuma.h: hand jobs to the queue and collect their results, from C or C++.
 *
 *   static const char job[] = "{\"text\":\"Good morning\"}";
 *   char id[ADWUMA_ID_MAX + 1], *json = NULL;
 *   struct adwuma_error err;
 *   adwuma *client = adwuma_open(NULL, &err);
 *
 *   if (client && adwuma_submit(client, "translate", job, sizeof job - 1, id, &err) == 0 &&
 *       adwuma_wait(client, "translate", id, 30000, &json, &err) == 0)
 *           puts(json);
 *   adwuma_free(json);
 *   adwuma_close(client);
 *
 * Strings are UTF-8 and NUL-terminated. A client may be used by one thread at a time. The library prints nothing,
 * installs no signal handler, and does not let SIGPIPE reach the host program. */
#ifndef ADWUMA_H
#define ADWUMA_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define ADWUMA_API __attribute__((visibility("default")))
#else
#define ADWUMA_API
#endif

#define ADWUMA_ID_MAX 128

typedef struct adwuma adwuma;

enum adwuma_code {
	ADWUMA_OK = 0,
	ADWUMA_INVALID = 2,	 /* an argument or a job does not have the form it must have */
	ADWUMA_MISSING = 66,	 /* the audio does not exist, or no longer */
	ADWUMA_UNREACHABLE = 69, /* Redis cannot be reached, or refuses us */
	ADWUMA_TIMEOUT = 75,	 /* no result within the time given */
	ADWUMA_CONFIG = 78,	 /* a setting is wrong */
	ADWUMA_NO_MEMORY = 71
};

struct adwuma_error {
	enum adwuma_code code;
	char message[512];
};

/* What a client needs to know. Every member NULL or 0: from the environment and /etc/adwuma/adwumad.conf, as the
 * programs do. */
struct adwuma_options {
	const char *redis_url;
	const char *redis_username;
	const char *redis_password;
	const char *key_prefix;
	int64_t max_job_bytes;
};

/* options: NULL or borrowed for the call. Connects at the first use. Returns owned (adwuma_close), NULL on failure. */
ADWUMA_API adwuma *adwuma_open(const struct adwuma_options *options, struct adwuma_error *err);
ADWUMA_API void adwuma_close(adwuma *client); /* NULL is fine */

/* Pushes one job (a JSON object) onto the queue's list. queue NULL: the queue named like the job's type up to its first
 * dot. A job without "id" gets one. id receives it. Returns 0 or -1. The job is checked only as far as a producer must:
 * JSON object, usable id, size. */
ADWUMA_API int adwuma_submit(adwuma *client, const char *queue, const char *job_json, size_t job_len,
			     char id[ADWUMA_ID_MAX + 1], struct adwuma_error *err);

/* One job of many. queue, json, len as above, borrowed for the call. */
struct adwuma_job {
	const char *queue;
	const char *json;
	size_t len;
	char id[ADWUMA_ID_MAX + 1]; /* set by the call, "" where the job is bad */
	struct adwuma_error error;  /* set by the call: what became of this one */
};

/* The same for many jobs in few round trips; they enter their lists in this order. A bad job does not hold up the
 * others. Where the connection breaks, what was not acknowledged is sent again under the same ids, which is harmless:
 * an id is done once. Returns 0 when all were taken, else -1 with the error of the first that was not. */
ADWUMA_API int adwuma_submit_many(adwuma *client, struct adwuma_job *jobs, size_t njobs, struct adwuma_error *err);

/* A fresh id: random, and ordered by time of making. For a producer that must know the id before it submits. */
ADWUMA_API void adwuma_new_id(char id[ADWUMA_ID_MAX + 1]);

/* Waits up to timeout_ms (0: only looks) for the result, which stays in Redis. *json: returns owned (adwuma_free). 0;
 * or -1 with ADWUMA_TIMEOUT when none came. A connection that breaks meanwhile is made anew within the time. */
ADWUMA_API int adwuma_wait(adwuma *client, const char *queue, const char *id, int64_t timeout_ms, char **json,
			   struct adwuma_error *err);

/* Raw bytes through an audio key: in for transcribe (ttl_s: its expiry; name: as an id), out for synthesize. key
 * receives the whole name. *bytes: returns owned (adwuma_free). */
ADWUMA_API int adwuma_put_audio(adwuma *client, const char *queue, const char *name, const void *bytes, size_t len,
				int64_t ttl_s, char *key, size_t key_bytes, struct adwuma_error *err);
ADWUMA_API int adwuma_get_audio(adwuma *client, const char *key, char **bytes, size_t *len, struct adwuma_error *err);

ADWUMA_API void adwuma_free(void *p); /* what this library returned as owned; NULL is fine */
ADWUMA_API const char *adwuma_version(void);

#ifdef __cplusplus
}
#endif
#endif
