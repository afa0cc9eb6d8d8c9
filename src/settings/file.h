/* SPDX-License-Identifier: MIT
 *
 * The settings file: INI by inih. Between the files of settings/ only. */
#ifndef ADWUMA_SETTINGS_FILE_H
#define ADWUMA_SETTINGS_FILE_H

#include "base/err.h"

/* queue: NULL before the first section, else the name in [queue NAME]. Returns 0, or -1 with err, which ends the reading. */
typedef int settings_line_fn(void *ctx, const char *place, const char *queue, const char *name, const char *value, struct error *err);

int settings_file_read(const char *path, settings_line_fn *line, void *ctx, struct error *err);

#endif
