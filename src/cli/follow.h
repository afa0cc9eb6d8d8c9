/* SPDX-License-Identifier: MIT
 *
 * Follows the stream of a job (contract section 3): its entries as they come. */
#ifndef ADWUMA_CLI_FOLLOW_H
#define ADWUMA_CLI_FOLLOW_H

#include "adwuma.h"
#include "cli/cli.h"
#include "cli/look.h"

struct follow {
	const struct cli *cli;
	adwuma *client;
	struct look look; /* to hint at workers and to cancel: opened at the first use */
	const char *queue;
	/* An entry; data is JSON. NULL: they are waited for, and not wanted. */
	void (*entry)(void *ctx, const char *event, const char *data, size_t n);
	void *ctx;
	volatile const bool *interrupted; /* ends the waiting */
};

enum followed {
	FOLLOW_ENDED, /* done or error came, or there is a result: it can be had now */
	FOLLOW_TIMED_OUT,
	FOLLOW_INTERRUPTED,
};

/* Blocks until deadline (clock_mono_ms()). A connection that breaks is made anew within the time; that is told once. hint: what is said where no
 * worker serves the queue (whether it is paused is said, too); NULL: nothing. */
enum followed follow_job(struct follow *f, const char *id, int64_t deadline, const char *hint);
/* Takes jobs back, as adwuma cancel does with a --queue. 0, or -1 with err. */
int follow_cancel(struct follow *f, const char *const *ids, size_t n, struct error *err);
void follow_close(struct follow *f);

#endif
