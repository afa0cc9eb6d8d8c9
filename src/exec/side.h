/* SPDX-License-Identifier: MIT
 *
 * A thread's own connection to Redis, for what one job needs beside its line's turns: audio, marks, pieces. Opened when it is first needed, kept
 * from job to job. One thread. */
#ifndef ADWUMA_EXEC_SIDE_H
#define ADWUMA_EXEC_SIDE_H

#include "redis/redis.h"

struct side {
	const struct redis_address *address; /* borrowed */
	struct redis *r;		     /* NULL: not open */
};

/* Opens it where it is not open. 0, or -1: Redis cannot be used now. */
int side_open(struct side *s, struct error *err);
void side_close(struct side *s); /* also after an error on it: the next side_open connects anew */

#endif
