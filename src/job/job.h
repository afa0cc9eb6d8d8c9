/* SPDX-License-Identifier: MIT
 *
 * A job as a producer wrote it: the payload's bytes, and where its fields stand in them.
 *
 * Nothing is copied or printed again: fields are spans of the payload, so what is put back or passed on stays byte for byte what
 * came. Which fields exist, of what kind and range, is the table in job.c; which of them a type reads is the type's row.
 *
 * Ownership: a struct job borrows the payload; the decoded strings live in its own arena until job_release().
 * One thread at a time. Pure. */
#ifndef ADWUMA_JOB_JOB_H
#define ADWUMA_JOB_JOB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "base/json.h"
#include "base/units.h"
#include "job/fault.h"

#define JOB_ID_MAX 128

enum job_field {
	JOB_ID,
	JOB_TYPE,
	JOB_REPLY,
	JOB_TIMEOUT_MS,
	JOB_MAX_ATTEMPTS,
	JOB_NOT_BEFORE_MS,
	JOB_EXPIRES_AT_MS,
	JOB_RESULT_TTL_S,
	JOB_IF_UNSURE,
	JOB_CACHE,
	JOB_TRACEPARENT,
	JOB_ENQUEUED_AT_MS,
	JOB_ATTEMPT,
	JOB_BILLED,
	/* of single types */
	JOB_TEXT,
	JOB_LANGUAGE_PAIR,
	JOB_AUDIO_PATH,
	JOB_AUDIO_KEY,
	JOB_AUDIO_URL,
	JOB_AUDIO_BASE64,
	JOB_LANGUAGE,
	JOB_TIMESTAMPS,
	JOB_SPEAKER,
	JOB_FORMAT,
	JOB_OUTPUT,
	JOB_OUTPUT_PATH,
	JOB_PARAMS,
	JOB_FIELDS
};

/* A row of the tables of types: those of Khaya are in job.c, those of TaskingAI, one for each operation, in operation.c. api/ attaches what a
 * type does. */
enum job_kind { JOB_TRANSLATE, JOB_TRANSCRIBE, JOB_SYNTHESIZE, JOB_TASKINGAI, JOB_KINDS };
struct job_type {
	enum job_kind kind;
	const char *name;    /* "translate" */
	const char *service; /* "khaya" */
	uint64_t fields;     /* bit 1 << JOB_… for each field of its own that it reads */
	int64_t timeout_ms;  /* default for one call */
};
const char *job_kind_service(enum job_kind kind);
const struct job_type *job_type_find(const char *name, size_t len); /* NULL: unknown */
/* All types, from 0 on; NULL: there are not so many. And the number of one. */
const struct job_type *job_type_at(size_t i);
size_t job_type_index(const struct job_type *type);

struct job {
	const char *payload;
	size_t payload_len;
	char id[JOB_ID_MAX + 1];     /* "" when no usable id could be read */
	char reply[JOB_ID_MAX + 1];  /* "" when none */
	const struct job_type *type; /* NULL when unknown */
	bool is_object;		     /* the payload is a JSON object */
	bool is_utf8;
	struct span field[JOB_FIELDS]; /* ptr NULL: absent or null */
	int64_t number[JOB_FIELDS];    /* of integer fields that are present */
	struct buf arena;
	size_t strings[JOB_FIELDS]; /* where in the arena a decoded string starts, plus one */
};

/* Reads the payload (borrowed). Returns 0, or -1 with *fault set to InvalidJobError: the job must fail, or go to dead alone
 * when id is "". id, reply, type, result_ttl_s, traceparent and enqueued_at_ms are filled as far as they could be read also then.
 * default_type: the queue's name. max_bytes: setting max_job_bytes. */
int job_parse(struct job *job, const char *payload, size_t len, const char *default_type, size_t max_bytes,
	      struct fault *fault);
void job_release(struct job *job); /* also of one all zero */

bool job_has(const struct job *job, enum job_field f);
/* The decoded, NUL-terminated string (valid until job_release), or otherwise when absent. job_parse has decoded all but text,
 * audio_base64 and params, which are decoded here at the first call. */
const char *job_string(struct job *job, enum job_field f, const char *otherwise);
int64_t job_number(const struct job *job, enum job_field f, int64_t otherwise);
/* if_unsure, or what the type does where the job says nothing: a request that went out is not sent again. */
bool job_holds(struct job *job);
/* It asks for partial output in stream:<id>. */
bool job_streams(const struct job *job);
/* What its producer calls a field: that of a file to upload stands within params. */
const char *job_field_name(const struct job *job, enum job_field f);

/* What was sent for the job in earlier tries. */
void job_billed(const struct job *job, struct units *out);
/* The payload with "attempt" and "billed" (and nothing else) set anew, for the way back into delayed. Appends to out. */
void job_with_attempt(const struct job *job, int64_t attempt, const struct units *billed, struct buf *out);

#endif
