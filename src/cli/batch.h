/* SPDX-License-Identifier: MIT
 *
 * batch: what its frame (batch.c) and its kinds share.
 *
 * A kind of batch knows how records come in and how results go out: lines of JSON (batch_jsonl.c), rows of a table (batch_csv.c), recordings of
 * a folder (batch_folder.c). The frame knows jobs: which are in flight, what an earlier run has submitted (batch_find.c), what has failed. */
#ifndef ADWUMA_CLI_BATCH_H
#define ADWUMA_CLI_BATCH_H

#include "adwuma.h"
#include "base/buf.h"
#include "base/err.h"
#include "cli/cli.h"
#include "cli/look.h"

#define BATCH_WINDOW_MAX 2000
#define BATCH_KINDS_MAX 16
#define BATCH_PATH_BYTES 4096

/* A record of the input that is not in the output yet. */
struct item {
	char id[ADWUMA_ID_MAX + 1];
	char queue[QUEUE_NAME_MAX + 1];
	size_t number;	   /* of the record, from 1 on */
	unsigned tries;	   /* with --retry-failed: those before this one, where the kind keeps count */
	struct buf job;	   /* its payload, until it is submitted */
	struct buf result; /* once it is there */
	struct buf record; /* what its kind keeps of it for the output */
	size_t held;	   /* bytes that it takes up here or in Redis until it is put out */
	size_t came;	   /* bytes of the result that came from Redis */
	bool doubtful;	   /* may have been submitted before, so it is looked for first */
	bool settled;	   /* has no job and no result: `record` is what stands in the output */
};

struct batch {
	const struct cli *cli;
	const struct batch_kind *kind;
	void *own; /* the kind's */
	struct look look;
	bool retries, at_end;
	bool fresh; /* OUT was not there before, and no connection has broken since: what was submitted is known without a look */
	bool blind;		       /* it ended because our user may not do what it takes */
	size_t read, done, of, failed; /* records; of 0: nobody knows */
	struct item *items;	       /* a ring, from `first` on */
	size_t first, n, unsent;
	size_t held, result_bytes, looks_at;
	size_t unsure_left; /* so many of the records that are read next may have been submitted by an earlier run */
	struct {
		char name[64];
		size_t n;
	} kinds[BATCH_KINDS_MAX]; /* of errors */
	int64_t told_ms, moved_ms;
	struct buf scratch;
};

struct batch_kind {
	const char *unit; /* "lines" */
	const char *one;  /* the member of a refused record's result that has its number; NULL: none */
	uint64_t takes;	  /* of the options that are not for all kinds */
	size_t window;	  /* records in flight; an earlier run's were no more */
	size_t held_max;  /* no further record is read while those in flight hold more bytes */
	bool ordered;	  /* results go out in the order of the input; else as they come */
	/* Opens input and output, counts what is done (batch_count) and gets to the first record that is not. Sets `own`. */
	int (*open)(struct batch *b, struct error *err);
	size_t (*count)(struct batch *b); /* how many records there are, for the bar; 0: nobody knows */
	/* The next record: 1, 0 at the end, or -1. It gets a job (batch_make_job), or is refused (batch_refuse), or settled. */
	int (*next)(struct batch *b, struct item *item, struct error *err);
	/* NULL, or sets `doubtful` where that can be told from Redis; the first window is it in any case. */
	int (*doubt)(struct batch *b, struct item *item, struct error *err);
	/* NULL, or what must be in Redis before the job is. May refuse it yet. */
	int (*send)(struct batch *b, struct item *item, struct error *err);
	/* Its result is there, or it is settled. May make its result a failed one. */
	int (*put)(struct batch *b, struct item *item, struct error *err);
	int (*flush)(struct batch *b, struct error *err); /* NULL, or after some have been put */
	int (*end)(struct batch *b, struct error *err);	  /* NULL, or once all have been put */
	void (*close)(struct batch *b);			  /* also where open failed */
};
extern const struct batch_kind batch_jsonl, batch_csv, batch_folder;

/* For kinds. */
/* An id that is the same whenever this record of this batch is read: place names the output, and text is the record. */
void batch_make_id(const char *place, size_t number, const char *text, size_t len, char id[ADWUMA_ID_MAX + 1]);
/* The id of one more try. */
void batch_retry_id(const char *id, char again[ADWUMA_ID_MAX + 1]);
/* id: for a job that has none. What is no job is refused. */
void batch_make_job(struct batch *b, struct item *item, const char *json, size_t len, const char *id);
/* Its result is a failed one: type NULL is InvalidJobError; what: NULL, or JSON that is kept beside it. */
void batch_refuse(const struct batch *b, struct item *item, const char *type, const char *why, const char *what);
/* A record is done; error: NULL, or the kind of error that it ended with. */
void batch_count(struct batch *b, const char *error);
/* The same by its result. */
void batch_count_result(struct batch *b, const char *json);
bool batch_succeeded(const char *json);

/* batch_find.c. Which of n items are known to Redis: have a result, wait or run. */
int batch_find(struct batch *b, struct item *const *items, size_t n, bool *there, struct error *err);

/* batch_output.c: a file of whole records, one behind the other. With --retry-failed it is OUT.new, which takes OUT's place at the end. */
struct batch_output {
	int fd, old; /* old: OUT, locked too, while OUT.new is written */
	bool is_new; /* it was not there before */
	char path[BATCH_PATH_BYTES], into[BATCH_PATH_BYTES + 8];
	struct buf pending; /* records that are not written yet */
};
int batch_output_open(struct batch_output *o, const struct batch *b, int in, struct error *err);
int batch_output_cut(struct batch_output *o, size_t whole, struct error *err); /* what is behind it was half a record */
int batch_output_flush(struct batch_output *o, struct error *err);	       /* in one piece */
int batch_output_replace(struct batch_output *o, struct error *err);
void batch_output_close(struct batch_output *o); /* also of one that was not opened */
/* When the input ends before the records that the output has. Returns -1. */
int batch_output_foreign(const struct batch_output *o, const struct batch *b, struct error *err);

#endif
