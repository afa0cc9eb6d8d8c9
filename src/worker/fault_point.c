/* SPDX-License-Identifier: MIT */
#include "worker/fault_point.h"

#ifdef ADWUMA_FAULTS

#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void fault_point(const char *name)
{
	static atomic_long passed;
	const char *wanted = getenv("ADWUMA_FAULT");
	size_t n = strlen(name);

	/* Point names hold a colon themselves, so the count stands behind an @. */
	if (!wanted || strncmp(wanted, name, n) != 0 || (wanted[n] && wanted[n] != '@'))
		return;
	if (atomic_fetch_add(&passed, 1) + 1 >= (wanted[n] ? atol(wanted + n + 1) : 1))
		kill(getpid(), SIGKILL);
}

#else

/* A translation unit must hold something. */
extern const char fault_points_are_off;
const char fault_points_are_off = 1;

#endif
