/* SPDX-License-Identifier: MIT
 *
 * The settings file: INI by inih. Between the files of settings/ only. */
#ifndef ADWUMA_SETTINGS_FILE_H
#define ADWUMA_SETTINGS_FILE_H

#include <stdbool.h>

#include "base/err.h"

/* A value as the file gives it. */
struct file_line {
	const char *place; /* PATH:LINE */
	const char *queue; /* NULL before the first section, else the name in [queue NAME] */
	const char *name, *value;
	bool continued; /* the value went on in indented lines, which are joined with commas */
};

/* Returns 0, or -1 with err, which ends the reading. */
typedef int settings_line_fn(void *ctx, const struct file_line *line, struct error *err);

int settings_file_read(const char *path, settings_line_fn *line, void *ctx, struct error *err);

#endif
