/* SPDX-License-Identifier: MIT
 *
 * Keeps SIGPIPE from the host program while a call of the library runs, without touching its handlers. */
#ifndef ADWUMA_LIB_SIGPIPE_H
#define ADWUMA_LIB_SIGPIPE_H

#include <signal.h>
#include <stdbool.h>

struct sigpipe {
	sigset_t before;
	bool pending; /* one was waiting already: it is the host's */
};

void sigpipe_block(struct sigpipe *s);
void sigpipe_restore(const struct sigpipe *s); /* errno stays */

#endif
