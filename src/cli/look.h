/* SPDX-License-Identifier: MIT
 *
 * For commands that look into Redis themselves: a connection, and the queues they are about. */
#ifndef ADWUMA_CLI_LOOK_H
#define ADWUMA_CLI_LOOK_H

#include <stdbool.h>
#include <stddef.h>

#include "cli/cli.h"
#include "redis/redis.h"

struct look {
	bool with_scripts; /* the caller wants to run the embedded scripts; set before connecting */
	struct redis *redis;
	const char *queues[QUEUES_MAX]; /* borrowed: that of --queue, else all of the settings */
	size_t nqueues;
	size_t nsilent; /* of them: look_each told why it could not be looked at */
	struct redis_address address;
};

void look_choose_queues(struct look *l, const struct cli *cli);
/* Returns an exit code, told. */
int look_connect(struct look *l, const struct cli *cli);
/* The same, untold. */
int look_open(struct look *l, const struct cli *cli, struct error *err);
/* Makes the connection anew where it was lost. */
int look_reconnect(struct look *l, struct error *err);
/* Tells why a command to Redis failed. Returns the exit code. */
int look_failed(const struct look *l, struct error *err);
/* Whether the other queues can be asked though one could not: Redis refuses, or in a cluster that queue's node is away. */
bool look_goes_on(const struct look *l, const struct error *err);
/* The same of one queue. */
int look_failed_at(const struct look *l, const char *queue, struct error *err);
/* Looks at each queue. look_at returns 0, 1 when it has seen enough, or -1: that is told, and where the other queues can be asked they are.
 * Returns an exit code, told; CLI_DONE also where some are silent. */
typedef int look_fn(void *ctx, const char *queue, struct error *err);
int look_each(struct look *l, look_fn *look_at, void *ctx);
/* The same where it is tried again, and that it was of use. */
void look_say_lost(const struct look *l, struct error *err);
void look_say_back(const struct look *l);
/* After something was not found: where it was looked for, and how to look elsewhere, unless --queue said where. */
void look_say_where(const struct look *l, const struct cli *cli);
/* A queue's name may be misspelt: then nobody listens. Tells that, and what becomes of it, where no living worker serves
 * the queue; nothing where Redis does not tell. */
void look_hint_at_workers(const struct look *l, const char *prefix, const char *queue, const char *so);
/* For who waits for jobs of a queue: the same, and whether it is paused. */
void look_hint_at_wait(const struct look *l, const char *prefix, const char *queue, const char *so);
void look_close(struct look *l); /* also of one all zero */

#endif
