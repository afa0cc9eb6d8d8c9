/* SPDX-License-Identifier: MIT
 *
 * adwuma.h: calls of AI services through the queue, or directly, from C or C++. The manual is adwuma(3).
 *
 *   struct adwuma_error err;
 *   adwuma *client = adwuma_open(NULL, &err);
 *   adwuma_handle *job = client ? adwuma_atranslate(client, "Good morning", "en-tw", NULL, &err) : NULL;
 *
 *   if (!job || adwuma_handle_wait(job, 30000, &err))
 *           puts(err.message);
 *   else if (adwuma_succeeded(adwuma_handle_result(job)))
 *           puts(adwuma_result_text(adwuma_handle_result(job)));
 *   else
 *           puts(adwuma_result_fault(adwuma_handle_result(job))->message);
 *   adwuma_close(client);
 *
 * Every operation has two forms. The direct one calls the API in the caller's thread, without Redis and without a worker. The one with an "a" hands
 * a job to the queue and returns a handle at once. Both give the same results and the same errors.
 *
 * Two kinds of failure are kept apart: a call that could not be made or awaited (struct adwuma_error: Redis is away, the time is up, an argument is
 * wrong), and a job that was done and failed (struct adwuma_fault, in its result).
 *
 * Strings are UTF-8 and NUL-terminated. A parameter `err` may be NULL. A client may be used by many threads at once; a handle, a result and a stream by one
 * thread at a time. What is "borrowed" stays its owner's; what is "returned owned" is the caller's to free with the function named. The library
 * prints nothing, keeps no global state, installs no signal handler, and lets no SIGPIPE reach the host program. A client does not survive fork(): the
 * child opens its own, and adwuma_close does nothing there with its parent's. With sentinels a thread of the client's own asks each second who the
 * master is, and leaves one that was replaced. */
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

/* The binary interface that this header describes; it is the number in libadwuma.so.N. adwuma_abi() is that of the library in use. */
#define ADWUMA_ABI 0
ADWUMA_API int adwuma_abi(void);
ADWUMA_API const char *adwuma_version(void); /* static, like "0.1.0" */

#define ADWUMA_ID_MAX 128

/* --- Errors of calls. ---------------------------------------------------------------------------------------------- */

enum adwuma_code {
	ADWUMA_OK = 0,
	ADWUMA_INVALID = 2,	 /* an argument or a job does not have the form it must have */
	ADWUMA_MISSING = 66,	 /* the audio does not exist, or no longer */
	ADWUMA_UNREACHABLE = 69, /* Redis cannot be reached, or refuses us */
	ADWUMA_NO_MEMORY = 71,
	ADWUMA_TIMEOUT = 75, /* the time was up */
	ADWUMA_CONFIG = 78   /* a setting is wrong */
};

struct adwuma_error {
	enum adwuma_code code;
	char message[512]; /* what is wrong, where, and what to do; never a secret */
};

/* --- A client. ------------------------------------------------------------------------------------------------------ */

typedef struct adwuma adwuma;

/* What differs from the settings. Every member NULL or 0: from the environment and /etc/adwuma/adwumad.conf, as the programs do. */
struct adwuma_options {
	const char *redis_url;
	const char *redis_username;
	const char *redis_password;
	const char *key_prefix;
	int64_t max_job_bytes;
	int64_t submit_timeout_ms; /* how long a submit waits while Redis is away, or takes nothing; 0: 10,000 */
	const char *khaya_api_key; /* this one and those below: for the direct forms only */
	const char *khaya_base_url;
	const char *taskingai_api_key;
	const char *taskingai_host;
};

/* options: NULL, or borrowed for the call. Connects at the first use. Returns owned (adwuma_close), NULL on failure. */
ADWUMA_API adwuma *adwuma_open(const struct adwuma_options *options, struct adwuma_error *err);
/* Hands over what was not handed over yet, for at most the submit time-out (and 10 s more where Redis takes a connection and does not answer), and
 * frees the client with all of its handles. No other thread may use any of them any more. NULL is fine. */
ADWUMA_API void adwuma_close(adwuma *client);

/* --- Results. ------------------------------------------------------------------------------------------------------- */

/* How a job ended. Read-only; strings are borrowed from it. NULL is one that neither succeeded nor says why. */
typedef struct adwuma_result adwuma_result;

/* What went wrong, as the API or the worker said. The names of types are those of the services' Python SDKs. */
struct adwuma_fault {
	const char *type;    /* "RateLimitError", "TranslationError", "TaskingAIError", "InvalidJobError" ... */
	const char *message; /* for people */
	int status_code;     /* HTTP; 0 where no answer came */
	const char
		*code; /* the API's own, or "transport", "timeout", "protocol", "truncated"; NULL where there is none */
	const char *details;	 /* JSON: an array */
	const char *activity_id; /* NULL where the API gave none */
	int retryable;		 /* 1: the same job, sent again later, could succeed */
	const char *service;	 /* "khaya", "taskingai", or NULL */
};

ADWUMA_API int adwuma_succeeded(const adwuma_result *result); /* 1 or 0 */
/* NULL where the job succeeded. */
ADWUMA_API const struct adwuma_fault *adwuma_result_fault(const adwuma_result *result);
/* The text: translation, transcript, an assistant's or a model's answer. NULL where there is none. */
ADWUMA_API const char *adwuma_result_text(const adwuma_result *result);
/* JSON: what the operation gave, by its type (README: a job's fields and results). NULL where the job failed. */
ADWUMA_API const char *adwuma_result_value(const adwuma_result *result);
/* JSON: all of it, with id, attempts and times. */
ADWUMA_API const char *adwuma_result_json(const adwuma_result *result);
/* What synthesize made, from the key that the result names or, of a direct call, from the result itself. *bytes: returns owned (adwuma_free).
 * 0 or -1; ADWUMA_MISSING where the result has no audio in either, or it has expired. */
ADWUMA_API int adwuma_result_audio(adwuma *client, const adwuma_result *result, char **bytes, size_t *len,
				   struct adwuma_error *err);
/* Of a result's JSON that came another way, like from adwuma_wait. Returns owned. */
ADWUMA_API adwuma_result *adwuma_result_parse(const char *json, size_t len, struct adwuma_error *err);
ADWUMA_API void adwuma_result_free(adwuma_result *result); /* only what was returned owned; NULL is fine */

/* --- What is common to all operations. ------------------------------------------------------------------------------ */

/* A piece of a stream. Borrowed: until the next call on its stream, or for the callback. */
struct adwuma_piece {
	const char *event; /* "chunk"; "restart": what came before is void; "done" and "error" end it */
	const char *data;  /* JSON: the API's event object as it came, {"attempt":n}, the result, the error */
	size_t len;
	const char *entry_id; /* where it stands in the stream, to go on from there; "" with direct calls */
};
typedef void adwuma_piece_fn(void *ctx, const struct adwuma_piece *piece);

/* How a job is to be done. Every member NULL or 0: as the settings of whoever does it say. */
struct adwuma_how {
	const char *queue; /* where it goes; NULL: the queue named like its type up to the first dot */
	const char
		*id; /* NULL: a fresh one. A second job of an id is not done: its handle gets the first one's result */
	int64_t timeout_ms; /* for one call of the API */
	int64_t max_attempts;
	int64_t not_before_ms; /* Unix time */
	int64_t expires_at_ms; /* Unix time */
	int64_t result_ttl_s;
	int64_t deadline_ms;   /* direct forms: how long it may take with all its tries; 0: 300,000 */
	const char *if_unsure; /* "rerun" or "hold" */
	const char *traceparent;
	const char *members; /* a JSON object of further members of the job, like {"format":"mp3"} */
	adwuma_piece_fn *
		piece; /* direct forms: gets the chunks and restarts of a stream as they come, in the caller's thread, SIGPIPE blocked */
	void *piece_ctx;
};

/* --- Direct calls. --------------------------------------------------------------------------------------------------- */

/* In the caller's thread; many threads make many calls at once. Each returns 0 when there is a result, also one of a job that failed; *result: returns
 * owned (adwuma_result_free). Else -1: ADWUMA_INVALID, ADWUMA_NO_MEMORY, or ADWUMA_TIMEOUT when the deadline came before the job was settled. */

/* language_pair NULL: "en-tw". */
ADWUMA_API int adwuma_translate(adwuma *client, const char *text, const char *language_pair,
				const struct adwuma_how *how, adwuma_result **result, struct adwuma_error *err);

/* Exactly one of path, bytes, key and url. Bytes are borrowed for the call. */
struct adwuma_audio {
	const char *path; /* a file of this host, whose bytes are sent along */
	const void *bytes;
	size_t len;
	const char *key; /* of Redis, as adwuma_put_audio names it: for the asynchronous form only */
	const char *url; /* where the settings of whoever does it allow its host */
};
/* language NULL: "twi"; timestamps NULL (none), "word" or "segment". */
ADWUMA_API int adwuma_transcribe(adwuma *client, const struct adwuma_audio *audio, const char *language,
				 const char *timestamps, const struct adwuma_how *how, adwuma_result **result,
				 struct adwuma_error *err);

/* language NULL: "twi"; speaker NULL: the API's default. */
ADWUMA_API int adwuma_synthesize(adwuma *client, const char *text, const char *language, const char *speaker,
				 const struct adwuma_how *how, adwuma_result **result, struct adwuma_error *err);

/* model_id: a model's, or an assistant's with TaskingAI's chat completion. messages: JSON, an array of {"role","content"}. params: NULL, or a JSON object
 * of further parameters: configs, functions, stream. */
ADWUMA_API int adwuma_chat_completion(adwuma *client, const char *model_id, const char *messages, const char *params,
				      const struct adwuma_how *how, adwuma_result **result, struct adwuma_error *err);

/* Any operation of TaskingAI by the SDK's name, like "create_assistant"; adwuma_operation() lists them. params: its arguments as a JSON object; NULL: {}. A
 * file for upload_file is named by file_path, its whole name, where this host has it (direct form), by file_key from adwuma_put_audio (the other). */
ADWUMA_API int adwuma_taskingai(adwuma *client, const char *operation, const char *params, const struct adwuma_how *how,
				adwuma_result **result, struct adwuma_error *err);
/* The name of operation i, from 0 on; NULL beyond the last. */
ADWUMA_API const char *adwuma_operation(size_t i);

/* A job of any type from its fields: members is a JSON object without id and type. */
ADWUMA_API int adwuma_call(adwuma *client, const char *type, const char *members, const struct adwuma_how *how,
			   adwuma_result **result, struct adwuma_error *err);

/* --- The same through the queue. ------------------------------------------------------------------------------------- */

/* Each returns a handle at once, borrowed from the client until adwuma_handle_free or adwuma_close; NULL with *err set when the job cannot be:
 * ADWUMA_INVALID, ADWUMA_NO_MEMORY, and ADWUMA_UNREACHABLE where so much waits to be handed over that there is no room within the submit time-out. A
 * thread of the client's own hands jobs over, many in a round trip, and makes lost connections anew; whoever must know that Redis has a job before going
 * on asks adwuma_handle_submitted. */

typedef struct adwuma_handle adwuma_handle;

ADWUMA_API adwuma_handle *adwuma_atranslate(adwuma *client, const char *text, const char *language_pair,
					    const struct adwuma_how *how, struct adwuma_error *err);
/* Audio from a file or from memory is put into Redis before this returns. */
ADWUMA_API adwuma_handle *adwuma_atranscribe(adwuma *client, const struct adwuma_audio *audio, const char *language,
					     const char *timestamps, const struct adwuma_how *how,
					     struct adwuma_error *err);
ADWUMA_API adwuma_handle *adwuma_asynthesize(adwuma *client, const char *text, const char *language,
					     const char *speaker, const struct adwuma_how *how,
					     struct adwuma_error *err);
ADWUMA_API adwuma_handle *adwuma_a_chat_completion(adwuma *client, const char *model_id, const char *messages,
						   const char *params, const struct adwuma_how *how,
						   struct adwuma_error *err);
ADWUMA_API adwuma_handle *adwuma_a_taskingai(adwuma *client, const char *operation, const char *params,
					     const struct adwuma_how *how, struct adwuma_error *err);
ADWUMA_API adwuma_handle *adwuma_a_call(adwuma *client, const char *type, const char *members,
					const struct adwuma_how *how, struct adwuma_error *err);

ADWUMA_API const char *adwuma_handle_id(const adwuma_handle *handle);	 /* the job's id */
ADWUMA_API const char *adwuma_handle_queue(const adwuma_handle *handle); /* where it went */
/* Whatever the caller wants to find with it; NULL at first. */
ADWUMA_API void adwuma_handle_set_data(adwuma_handle *handle, void *data);
ADWUMA_API void *adwuma_handle_data(const adwuma_handle *handle);

/* Each wait: 0 when what is waited for is there; -1 with ADWUMA_TIMEOUT after timeout_ms (0: only looks), or with ADWUMA_UNREACHABLE where a job could
 * not be handed over, or nobody knows whether it was: its message says so, and it should be tried again under adwuma_handle_id() only, since it may be
 * done. A result that is there stays with its handle. Handles that are waited for together must be of one client. */

/* Until Redis has the job. From then on it will be done, whatever becomes of this process. */
ADWUMA_API int adwuma_handle_submitted(adwuma_handle *handle, int64_t timeout_ms, struct adwuma_error *err);
/* Until its result is there. */
ADWUMA_API int adwuma_handle_wait(adwuma_handle *handle, int64_t timeout_ms, struct adwuma_error *err);
/* Until all results are there. A job that could not be handed over, and a NULL in the place of a handle, is told when all others are there. */
ADWUMA_API int adwuma_gather(adwuma_handle *const *handles, size_t n, int64_t timeout_ms, struct adwuma_error *err);
/* Until one of them is settled: *which is its place, the first one's where there are several. Put NULL there to wait for the next. */
ADWUMA_API int adwuma_wait_first(adwuma_handle *const *handles, size_t n, int64_t timeout_ms, size_t *which,
				 struct adwuma_error *err);

/* The result, borrowed from the handle; NULL where there is none yet, or never will be, or the handle is NULL. Never waits. */
ADWUMA_API const adwuma_result *adwuma_handle_result(adwuma_handle *handle);
/* Why there will be none: 0, and *err all zero, where nothing is wrong; else -1. Never waits. */
ADWUMA_API int adwuma_handle_error(adwuma_handle *handle, struct adwuma_error *err);
/* Says that it is not wanted any more. What has not begun will not; the result then is a CancelledError. 0 or -1. */
ADWUMA_API int adwuma_handle_cancel(adwuma_handle *handle, struct adwuma_error *err);
/* Forgets it, at any time; the job goes on. For jobs that nobody will wait for adwuma_submit is meant: a client that is closed leaves the results of
 * what still runs in its reply list until they expire. NULL is fine. */
ADWUMA_API void adwuma_handle_free(adwuma_handle *handle);

/* For event loops: a file descriptor, the client's own, that can be read from while adwuma_next_settled has something to give. -1 on failure. Asked for
 * before the handles that it shall tell of are made. */
ADWUMA_API int adwuma_fd(adwuma *client, struct adwuma_error *err);
/* The next handle that was settled, each once; NULL: none at the moment. Never waits. */
ADWUMA_API adwuma_handle *adwuma_next_settled(adwuma *client);

/* --- Streams: the pieces of a chat completion or message with "stream": true, from any process. ------------------------ */

typedef struct adwuma_stream adwuma_stream;

/* after: NULL, or the entry_id of the last piece that was seen. Connects at the first use; has a connection of its own. Returns owned. */
ADWUMA_API adwuma_stream *adwuma_stream_open(adwuma *client, const char *queue, const char *id, const char *after,
					     struct adwuma_error *err);
/* 1: *piece is the next one. 0: the stream has ended, or the job has its result without one. -1: ADWUMA_TIMEOUT, or Redis could not be reached within
 * timeout_ms; it may be called again. */
ADWUMA_API int adwuma_stream_next(adwuma_stream *stream, int64_t timeout_ms, struct adwuma_piece *piece,
				  struct adwuma_error *err);
ADWUMA_API void adwuma_stream_close(adwuma_stream *stream); /* before its client; NULL is fine */

/* --- Jobs as JSON, by their ids. -------------------------------------------------------------------------------------- */

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
 * an id is done once. So is what Redis refuses for a while (it is full, or has become a replica); it enters behind what
 * was taken. Returns 0 when all were taken, else -1 with the error of the first that was not. */
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

#ifdef __cplusplus
}
#endif
#endif
