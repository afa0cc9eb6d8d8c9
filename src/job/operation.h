/* SPDX-License-Identifier: MIT
 *
 * The operations of TaskingAI as data: one row each, and each is a job type, `taskingai.<operation>`. Adding one is adding a row.
 *
 * A row says what a job of that type takes (its params, by the names of the official SDK), where each of them goes in the request, what the
 * answer must hold, and whether the operation may be carried out twice. Here that is checked and looked up; api/taskingai.c makes the request
 * of it. Pure; the table is read-only. */
#ifndef ADWUMA_JOB_OPERATION_H
#define ADWUMA_JOB_OPERATION_H

#include "job/job.h"

#define OPERATION_PREFIX "taskingai."
#define OPERATION_PARAMS_MAX 16

enum param_place {
	PARAM_PATH,  /* fills {name} of the path, percent-encoded */
	PARAM_QUERY, /* name=value, percent-encoded */
	PARAM_BODY,  /* a member of the JSON body, as the text it came as */
	PARAM_FILE, /* says which file is sent: file_path, file_key, file_base64; file_name; and the form's field purpose */
};

enum param_kind {
	PARAM_STRING,
	PARAM_ID, /* a string that is not empty */
	PARAM_INTEGER,
	PARAM_NUMBER,
	PARAM_BOOL,
	PARAM_OBJECT,
	PARAM_STRING_MAP, /* an object whose values are strings */
	PARAM_STRINGS,	  /* an array of strings */
	PARAM_OBJECTS,	  /* an array of objects */
	PARAM_MESSAGES,	  /* the same, of one at least */
	PARAM_TEXTS,	  /* a string, or an array of strings */
};

struct param {
	const char *name; /* NULL ends a row's list */
	enum param_place place;
	enum param_kind kind;
	bool required;
	const char *otherwise; /* JSON that is sent where it is absent; NULL: nothing is */
	const char *inside;    /* the member of the body that it is a member of; NULL: the body itself */
};

/* What "data" of an answer must be. */
enum operation_answer {
	ANSWER_OBJECT,
	ANSWER_LIST,
	ANSWER_EMPTY,	/* nothing is expected */
	ANSWER_VECTORS, /* a list with an embedding for each input */
};

/* Whether it may be carried out twice where nobody knows if it was (taskingai-api.md 3.9). */
enum operation_repeat {
	REPEAT_FREELY,
	REPEAT_DELETE,		 /* freely, and finding nothing left is success */
	REPEAT_NOT_BY_ASSISTANT, /* freely with a model's id; an assistant's tools may do anything */
	REPEAT_NEVER,		 /* something would be there twice */
};

struct operation {
	struct job_type type; /* first: a job's type is its operation */
	const char *method, *path;
	enum operation_answer answer;
	enum operation_repeat repeat;
	bool streams;	      /* takes "stream": true */
	const char *constant; /* members that its body always has; NULL: none */
	const struct param *params;
	/* What the SDK checks beyond single params: what is wrong, NULL: nothing. values by the places in params. */
	const char *(*check)(const struct span *values);
};

/* name: the whole type, with its prefix. NULL: unknown. */
const struct operation *operation_find(const char *name, size_t len);
/* That of a job whose type has kind JOB_TASKINGAI, else NULL. */
const struct operation *operation_of(const struct job *job);
const struct operation *operation_at(size_t i); /* NULL: there are not so many */

/* Whether the job's params are such as its operation takes. 0; or -1 with *fault set to InvalidJobError. */
int operation_check(const struct job *job, struct fault *fault);
/* The params of a job that was checked, by their places in the operation's list; ptr NULL: absent or null. */
void operation_values(const struct job *job, struct span values[OPERATION_PARAMS_MAX]);
/* The value of one, by its name, of a job whose params were checked or not. ptr NULL: absent, null, or there are no such params. */
struct span operation_value(const struct job *job, const char *name);
/* What such a job does where it says nothing about if_unsure. */
bool operation_holds(const struct job *job);
/* "string", "array of objects" … for people. */
const char *operation_kind_name(enum param_kind kind);

#endif
