/* SPDX-License-Identifier: MIT
 *
 * What the files that play TaskingAI share; nobody else includes it. */
#ifndef ADWUMA_STUB_TASKING_H
#define ADWUMA_STUB_TASKING_H

#include "stub/store.h"
#include "stub/taskingai.h"

#define TASKING_IDS_MAX 3 /* in a path */

struct tasking;
typedef void tasking_fn(struct tasking *t);

struct tasking_route {
	const char *method;
	const char *path; /* {} stands for an id */
	enum kind kind;	  /* of what it is about */
	tasking_fn *serve;
	bool loose;  /* ids are not looked at before the object is looked for */
	bool hosted; /* the hosted edition alone has it */
};

/* A call on its way. */
struct tasking {
	struct stub *stub;
	const struct httpd_request *r;
	struct httpd_answer *a;
	const struct tasking_route *route;
	struct directives d;
	struct span body;
	char ids[TASKING_IDS_MAX][OBJECT_ID_MAX * 2];
	size_t nids;
	struct object *up; /* what the path leads to: the object, or what it is to be made or listed below */
};

/* --- taskingai.c --- */

/* The envelope's {"status":"success","data":, left open: the caller writes the data and closes it. */
void tasking_open(struct tasking *t);
void tasking_close(struct tasking *t);
void tasking_error(struct tasking *t, int status, const char *code, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
/* 422 about a part of the request: where: text. */
void tasking_invalid(struct tasking *t, const char *where, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* The member of an object; ptr NULL: absent or null. */
struct span tasking_member(struct span object, const char *name);
bool tasking_text(struct span v, struct buf *out); /* decodes a string; false: it is none */
bool tasking_is(struct span v, enum json_type type);
/* A member's text, "" where there is none. out is emptied first. */
const char *tasking_string(struct span object, const char *name, struct buf *out);

enum model { MODEL_UNKNOWN, MODEL_CHAT, MODEL_EMBEDDING, MODEL_RERANK };
enum model tasking_model(const char *id);
bool tasking_can_stream(const char *id);
bool tasking_can_call(const char *id);

/* --- tasking_objects.c --- */

tasking_fn tasking_list, tasking_get, tasking_create, tasking_update, tasking_delete, tasking_clean, tasking_query,
	tasking_upload, tasking_bulk_create, tasking_run;
const char *tasking_kind_name(enum kind kind);
enum kind tasking_parent_kind(enum kind kind); /* KINDS: none */
/* An object as answers show it. score < -1: without one. */
void tasking_write(struct buf *out, const struct object *o, double score);
struct object *tasking_add_message(struct tasking *t, struct object *chat, const char *role, const char *text);

/* --- tasking_infer.c --- */

tasking_fn tasking_complete, tasking_generate, tasking_embed, tasking_rerank;
double tasking_similarity(const char *a, const char *b); /* of two texts: their vectors' product */

/* --- tasking_stream.c --- */

/* An answer of pieces (their text), of these kinds of objects, and the object at the end. NULL final: it ends with an error event. */
void tasking_stream(struct tasking *t, const char *chunk_object, const char *text, const struct buf *final);
void tasking_stream_error(struct tasking *t, const char *code, const char *message);

#endif
