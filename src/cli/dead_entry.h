/* SPDX-License-Identifier: MIT
 *
 * An entry of the list of dead jobs, as PROTOCOL.md fixes it, and which of them one wants. */
#ifndef ADWUMA_CLI_DEAD_ENTRY_H
#define ADWUMA_CLI_DEAD_ENTRY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "adwuma.h"
#include "base/json.h"
#include "cli/cli.h"
#include "cli/look.h"

#define DEAD_NAME_MAX 128 /* of a type's or an error's name that is looked at */

struct dead_entry {
	struct span whole;  /* as it stands in Redis; borrowed */
	bool readable;	    /* it has the form of an entry */
	struct span job;    /* its value: the payload, or a string that holds it */
	bool base64;	    /* the string does so in base64 */
	bool can_run;	    /* it is an object with a usable id */
	struct span error;  /* the object */
	int64_t died_at_ms; /* 0: unknown */
	int64_t status_code;
	char id[ADWUMA_ID_MAX + 1];   /* "" when none is usable */
	char type[DEAD_NAME_MAX + 1]; /* the queue's name where the job names none; "" when it cannot be read */
	char error_type[DEAD_NAME_MAX + 1];
};

void dead_entry_read(struct dead_entry *e, const char *text, size_t len, const char *queue);

struct dead_filter {
	char **ids; /* borrowed; none: any */
	size_t nids;
	bool *met;		    /* owned: which of ids some entry had */
	const char *type, *error;   /* NULL: any */
	int64_t older_ms, newer_ms; /* -1: any */
	int64_t now_ms;		    /* Redis's clock; the caller sets it */
	int64_t limit;		    /* how many more are wanted */
};

/* From the command line. chosen: there must be an id, a filter or --all. Returns an exit code, told. */
int dead_filter_init(struct dead_filter *f, const struct cli *cli, bool chosen);
void dead_filter_release(struct dead_filter *f);
/* Does not look at the limit. */
bool dead_filter_takes(struct dead_filter *f, const struct dead_entry *e);
/* Tells which ids no entry had, and where was looked. Returns CLI_JOB_FAILED when there are any. */
int dead_filter_say_unmet(const struct dead_filter *f, const struct look *look, const struct cli *cli);

#endif
