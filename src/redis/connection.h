/* SPDX-License-Identifier: MIT
 *
 * Between the files of redis/ only. */
#ifndef ADWUMA_REDIS_CONNECTION_H
#define ADWUMA_REDIS_CONNECTION_H

#include "redis/redis.h"

const char *redis_script_sha(const struct redis *r, enum redis_script s);
#define REDIS_HEAD_MAX 32
/* The line that stands before the arguments. Returns its length. */
size_t redis_args_head(const struct redis_args *a, char out[REDIS_HEAD_MAX]);

#endif
