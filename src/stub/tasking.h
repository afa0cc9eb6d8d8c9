/* SPDX-License-Identifier: MIT
 *
 * What the files that play TaskingAI share; nobody else includes it. */
#ifndef ADWUMA_STUB_TASKING_H
#define ADWUMA_STUB_TASKING_H

#include "stub/form.h"
#include "stub/schema.h"
#include "stub/store.h"
#include "stub/taskingai.h"

#define TASKING_IDS_MAX 3 /* in a path */
#define TASKING_TEXT_MAX (16UL * 1024 * 1024)

struct tasking;
typedef void tasking_fn(struct tasking *t);
typedef bool tasking_check(struct tasking *t); /* false: it does not hold, and the answer is made */

enum {
	LOOSE = 1,    /* ids are not looked at before the object is looked for */
	HOSTED = 2,   /* the hosted edition alone has it */
	OPEN = 4,     /* needs no key */
	FORM = 8,     /* its body is a form */
	PARTIAL = 16, /* no member of its body is required */
};

struct tasking_route {
	const char *method;
	const char *path; /* {} stands for an id */
	enum kind kind;	  /* of what it is about */
	tasking_fn *serve;
	const struct field *fields; /* of its JSON body; NULL: it reads none */
	tasking_check *check;	    /* what else its schema says; NULL: nothing */
	unsigned flags;
};

/* A call on its way. */
struct tasking {
	struct stub *stub;
	const struct httpd_request *r;
	struct httpd_answer *a;
	const struct tasking_route *route;
	struct directives d;
	struct buf asked, said; /* what the directives borrow from, where it is not the body itself */
	struct span body;
	struct form form;
	char ids[TASKING_IDS_MAX][OBJECT_ID_MAX * 2];
	size_t nids;
	struct object *up; /* what the path leads to: the object, or what it is to be made or listed below */
	/* Of a generation: what is to be known when it is over. */
	struct object *chat, *message;
	size_t final_end; /* of a stream: where the final object ends; 0: it has none */
	bool streams;
};

/* --- taskingai.c --- */

/* Where the directives want it the call is answered wrongly, and that is all. */
bool tasking_goes_wrong(struct tasking *t);
/* The envelope's {"status":"success","data":, left open: the caller writes the data and closes it. */
void tasking_open(struct tasking *t);
void tasking_close(struct tasking *t);
void tasking_show(struct tasking *t, const struct buf *data); /* the whole of it */
void tasking_nothing(struct tasking *t);		      /* {"status":"success"} */
void tasking_error(struct tasking *t, int status, const char *code, const char *fmt, ...)
	__attribute__((format(printf, 4, 5)));
/* 422 about a part of the request: where: text. */
void tasking_invalid(struct tasking *t, const char *where, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* 422 of another kind: text. */
void tasking_refuse(struct tasking *t, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* 404 */
void tasking_unknown(struct tasking *t, const char *kind, const char *id);
/* What the model service refuses comes back as an object in the message (3.4). */
void tasking_refuse_inside(struct tasking *t, const char *text);

struct span tasking_member(struct span object, const char *name); /* as schema_member(), but null is absent too */
bool tasking_text(struct span v, struct buf *out);		  /* decodes a string; false: it is none */
bool tasking_is(struct span v, enum json_type type);
bool tasking_says(struct span v, const char *text); /* a string that says just this */
/* As the server writes it anew: without blanks between, and without escapes that need not be. */
void tasking_add_json(struct buf *out, struct span v);
/* A member's text, "" where there is none. out is emptied first. */
const char *tasking_string(struct span object, const char *name, struct buf *out);
bool tasking_true(struct span object, const char *name);
size_t tasking_tokens(struct span text); /* an estimate: a token is four letters */

enum model { MODEL_UNKNOWN, MODEL_CHAT, MODEL_EMBEDDING, MODEL_RERANK };
enum model tasking_model(const char *id);
bool tasking_can_stream(const char *id);
bool tasking_can_call(const char *id);

/* --- tasking_objects.c --- */

tasking_fn tasking_list, tasking_list_chunks, tasking_get, tasking_create, tasking_update, tasking_delete,
	tasking_clean;
tasking_check tasking_check_list, tasking_check_chunk_list, tasking_check_assistant;
extern const struct field tasking_assistant_fields[], tasking_chat_fields[], tasking_message_fields[],
	tasking_message_update_fields[], tasking_collection_fields[], tasking_collection_update_fields[],
	tasking_record_fields[], tasking_chunk_fields[];
const char *tasking_kind_name(enum kind kind);
enum kind tasking_parent_kind(enum kind kind); /* KINDS: none */
/* An object as answers show it. score: NULL, or shown too. */
void tasking_write(struct tasking *t, struct buf *out, const struct object *o, const double *score);
struct object *tasking_add(struct tasking *t, enum kind kind, struct object *parent); /* NULL: the answer is made */
struct object *tasking_add_message(struct tasking *t, struct object *chat, const char *role, const char *text);
void tasking_set_text(struct object *o, const char *name, const char *text);
void tasking_set(struct object *o, const char *name, const struct buf *json);
/* Walks what the next answer in a chat is made of, oldest first. */
struct object *tasking_next_message(const struct tasking *t, const struct object *chat, const struct object *o);

/* --- tasking_records.c --- */

tasking_fn tasking_query;
tasking_check tasking_check_record;
extern const struct field tasking_query_fields[];
/* The text of a record becomes chunks, those of before go. False: the answer is made. */
bool tasking_fill_record(struct tasking *t, struct object *record);

/* --- tasking_files.c --- */

tasking_fn tasking_upload, tasking_upload_image;
tasking_check tasking_check_file, tasking_check_image;

/* --- tasking_actions.c --- */

tasking_fn tasking_bulk_create, tasking_update_action, tasking_run;
tasking_check tasking_check_action, tasking_check_action_update;
extern const struct field tasking_action_fields[], tasking_run_fields[];

/* --- tasking_infer.c --- */

tasking_fn tasking_embed, tasking_rerank;
extern const struct field tasking_embed_fields[], tasking_rerank_fields[];
double tasking_similarity(const char *a, const char *b); /* of two texts: their vectors' product */

/* --- tasking_chat.c --- */

tasking_fn tasking_complete, tasking_generate;
tasking_check tasking_check_completion;
extern const struct field tasking_completion_fields[], tasking_generate_fields[];

/* --- tasking_stream.c --- */

struct tasking_events {
	const char *object;		  /* of its chunks; NULL: it has none */
	const char *text;		  /* cut into their deltas */
	const struct buf *final;	  /* the object at the end; NULL: none */
	const struct buf *before, *after; /* the chunks: events as JSON, one a line; NULL: none */
	const char *code, *message;	  /* code not NULL: an Error event in place of the final object */
};
void tasking_stream(struct tasking *t, const struct tasking_events *e);

#endif
