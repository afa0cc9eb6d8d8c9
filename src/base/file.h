/* SPDX-License-Identifier: MIT
 *
 * Whole files. Any thread. */
#ifndef ADWUMA_BASE_FILE_H
#define ADWUMA_BASE_FILE_H

#include "base/buf.h"
#include "base/err.h"

/* All of a regular file into out (empty before), up to out's bound, which comes from the setting of that name. ERR_INVALID with the reason. */
int file_read_all(const char *path, const char *setting, struct buf *out, struct error *err);

#endif
