/* SPDX-License-Identifier: MIT
 *
 * hiredis writes with write(), and a socket whose peer has gone then raises SIGPIPE, which kills a program that did not
 * think of it. The signal goes to the thread that wrote, so it is blocked in this thread for the length of the call,
 * and one that came meanwhile is taken before the mask is put back. */
#include "lib/sigpipe.h"

#include <errno.h>
#include <pthread.h>
#include <time.h>

static void only_sigpipe(sigset_t *set)
{
	sigemptyset(set);
	sigaddset(set, SIGPIPE);
}

void sigpipe_block(struct sigpipe *s)
{
	sigset_t pipe, waiting;

	sigemptyset(&waiting);
	sigpending(&waiting);
	s->pending = sigismember(&waiting, SIGPIPE) == 1;
	only_sigpipe(&pipe);
	pthread_sigmask(SIG_BLOCK, &pipe, &s->before);
}

void sigpipe_restore(const struct sigpipe *s)
{
	static const struct timespec now = {0};
	int kept = errno;
	sigset_t pipe;

	only_sigpipe(&pipe);
	while (!s->pending && sigtimedwait(&pipe, NULL, &now) < 0 && errno == EINTR)
		;
	pthread_sigmask(SIG_SETMASK, &s->before, NULL);
	errno = kept;
}
