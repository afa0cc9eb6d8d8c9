/* SPDX-License-Identifier: MIT
 *
 * What the result of a transcription is written as (--format). */
#ifndef ADWUMA_CLI_TRANSCRIPT_H
#define ADWUMA_CLI_TRANSCRIPT_H

#include <stdbool.h>

#include "base/buf.h"
#include "base/err.h"
#include "cli/show.h"

struct transcript_format {
	const char *name, *ending; /* of a file */
	/* Appends to out. ERR_INVALID where there is nothing of it in the result, with words for the user. */
	int (*render)(const struct result *r, struct buf *out, struct error *err);
	bool timed; /* made of timings; many lines, which are one file */
};

/* NULL: that of plain text. */
const struct transcript_format *transcript_format(const char *name);

#endif
