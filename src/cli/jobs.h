/* SPDX-License-Identifier: MIT
 *
 * What translate, transcribe and synthesize share: each operand becomes one job; all are submitted, then their results are shown in
 * order.
 *
 * A trade is what differs between the three: what members its jobs have, and what is done with a result. Everything that can be found
 * wrong is found before the first job is submitted, since a job costs money. */
#ifndef ADWUMA_CLI_JOBS_H
#define ADWUMA_CLI_JOBS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "adwuma.h"
#include "base/buf.h"
#include "base/err.h"
#include "cli/cli.h"
#include "cli/show.h"
#include "lib/direct.h"

struct work;

struct trade {
	const char *type;
	/* Whether operands and options can be used; NULL: always. Returns an exit code, told. */
	int (*check)(const struct cli *cli);
	/* Writes what a job of this type has beside its id and type, each member with a comma before it. Returns an
	 * exit code, told. */
	int (*write)(struct work *w, const char *operand, const char *id, struct buf *out);
	/* The result of job i is there. Returns an exit code, told. */
	int (*finish)(struct work *w, size_t i, const char *json);
	/* NULL, or watches job i before its result is waited for, until the deadline (clock_mono_ms()). Returns an exit code, told;
	 * CLI_UNREACHABLE ends the collecting. */
	int (*watch)(struct work *w, size_t i, int64_t deadline);
	direct_piece_fn *piece; /* NULL, or what --direct does with pieces of a stream; ctx is the work */
	enum show_form form;	/* without --json */
};

struct work {
	const struct cli *cli;
	const struct trade *trade;
	const char *queue;
	adwuma *client;		      /* NULL with --direct */
	struct direct_site *site;     /* only with --direct */
	struct direct *direct;	      /* the same */
	struct direct_outcome spoken; /* of the job whose result is being finished, with --direct */
	struct adwuma_job *jobs;
	struct buf *texts; /* the jobs' JSON */
	size_t n;
	int64_t timeout_ms;
	bool hinted; /* that the queue may have no worker was looked at */
	enum show_form form;
};

/* Returns the command's exit code, told. */
int jobs_run(const struct cli *cli, const struct trade *trade);

/* For trades. Tells what an operand or option makes impossible; returns the exit code. */
int jobs_usage_failure(const struct cli *cli, const struct error *err);
/* Where the results of several operands go: path gets DIR/NAME. ERR_USAGE when DIR is empty or it is too long. */
int jobs_path_in(const char *dir, const char *name, char *path, size_t bytes, struct error *err);
/* ,"name":"value"; nothing where value is NULL. */
void jobs_write_member(struct buf *out, const char *name, const char *value);
/* A text, or standard input without its last line break. Returns an exit code, told. */
int jobs_read_text(struct work *w, const char *operand, struct buf *out);
/* ,"text":… of an operand. Returns an exit code, told. */
int jobs_write_text(struct work *w, const char *operand, struct buf *out);
const char *jobs_language(const struct cli *cli);
/* Shows a result in the form that the options ask for. Returns an exit code, told. */
int jobs_show(struct work *w, size_t i, const char *json);

#endif
