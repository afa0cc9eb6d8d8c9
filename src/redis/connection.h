/* SPDX-License-Identifier: MIT
 *
 * Between the files of redis/ only. */
#ifndef ADWUMA_REDIS_CONNECTION_H
#define ADWUMA_REDIS_CONNECTION_H

#include "redis/redis.h"

const char *redis_script_sha(const struct redis *r, enum redis_script s);
void redis_args_resolve(struct redis_args *a);

#endif
