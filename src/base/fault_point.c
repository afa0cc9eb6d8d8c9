/* SPDX-License-Identifier: MIT */
#include "base/fault_point.h"

#ifdef ADWUMA_FAULTS

#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define FDS_MAX 1024

/* Both ends learn at once; the owners find out with their next step. */
static void cut_all(void)
{
	for (int fd = 0; fd < FDS_MAX; fd++) {
		int listens = 0;
		socklen_t n = sizeof listens;

		if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &n) == 0 && !listens)
			(void)shutdown(fd, SHUT_RDWR);
	}
}

void fault_point(const char *name)
{
	static atomic_long passed;
	const char *wanted = getenv("ADWUMA_FAULT"), *what, *count;
	size_t n = strlen(name);

	/* Names hold a colon themselves. */
	if (!wanted || strncmp(wanted, name, n) != 0 || (wanted[n] && !strchr("=@", wanted[n])))
		return;
	what = wanted[n] == '=' ? wanted + n + 1 : "kill";
	count = strchr(wanted, '@');
	if (atomic_fetch_add(&passed, 1) + 1 != (count ? atol(count + 1) : 1))
		return;
	if (strncmp(what, "cut", 3) == 0)
		cut_all();
	else if (strncmp(what, "stall", 5) == 0)
		for (;;)
			pause();
	else
		kill(getpid(), SIGKILL);
}

#else

/* A translation unit must hold something. */
extern const char fault_points_are_off;
const char fault_points_are_off = 1;

#endif
