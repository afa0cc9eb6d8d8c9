/* SPDX-License-Identifier: MIT
 *
 * Where fetched audio goes: a file that appears whole or not at all, or standard output. */
#ifndef ADWUMA_CLI_SAVE_H
#define ADWUMA_CLI_SAVE_H

#include <stddef.h>

#include "base/err.h"

/* Whether path can be written, before anything is paid for. "-" is standard output. ERR_USAGE with the reason. */
int save_check(const char *path, struct error *err);
/* ERR_SYSTEM with the reason. */
int save_bytes(const char *path, const char *bytes, size_t len, struct error *err);

#endif
