/* SPDX-License-Identifier: MIT
 *
 * See pool.h. Stacks are sized on purpose: the deepest user is cJSON at 200 levels (32 KiB) under curl with TLS (some 60 KiB), so
 * THREAD_STACK_BYTES leaves a wide margin and 4,096 threads still fit into one GiB of address space. */
#include "pool/pool.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define THREAD_STACK_BYTES (256UL * 1024)
#define THREAD_NAME_MAX 16 /* with the NUL: the kernel's limit */

struct member {
	struct pool *pool;
	pthread_t thread;
	unsigned id;
};

struct pool {
	const struct pool_crew *crew;
	void *shared;
	unsigned started;
	struct member members[];
};

static int start(pthread_t *thread, void *(*run)(void *), void *arg)
{
	sigset_t all, before;
	pthread_attr_t attr;
	int rc;

	sigfillset(&all);
	rc = pthread_attr_init(&attr);
	if (rc)
		return rc;
	(void)pthread_attr_setstacksize(&attr, THREAD_STACK_BYTES);
	/* Only main takes signals, so a thread must be born with all of them blocked. */
	pthread_sigmask(SIG_SETMASK, &all, &before);
	rc = pthread_create(thread, &attr, run, arg);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attr);
	return rc;
}

int pool_thread(void *handle, const char *name, void *(*run)(void *), void *arg, struct error *err)
{
	pthread_t *thread = handle;
	char short_name[THREAD_NAME_MAX];
	int rc = start(thread, run, arg);

	if (rc)
		return error_set(err, ERR_SYSTEM, "cannot start thread %s: %s", name, strerror(rc));
	snprintf(short_name, sizeof short_name, "%s", name);
	(void)pthread_setname_np(*thread, short_name);
	return 0;
}

static void *member_main(void *arg)
{
	struct member *m = arg;

	m->pool->crew->run(m->pool->shared, m->id);
	return NULL;
}

int pool_new(struct pool **out, const struct pool_crew *crew, void *shared, unsigned nthreads,
	     void (*give_up)(void *shared), struct error *err)
{
	struct pool *p = calloc(1, sizeof *p + nthreads * sizeof *p->members);

	if (!p)
		return error_set(err, ERR_MEMORY, "out of memory for %u threads", nthreads);
	p->crew = crew;
	p->shared = shared;
	for (unsigned i = 0; i < nthreads; i++) {
		struct member *m = &p->members[i];
		char name[THREAD_NAME_MAX];

		*m = (struct member){.pool = p, .id = i};
		snprintf(name, sizeof name, "%.9s/%u", crew->name, i % 10000);
		if (pool_thread(&m->thread, name, member_main, m, err)) {
			error_prefix(err, "thread %u of %u", i + 1, nthreads);
			give_up(shared);
			pool_join(p);
			pool_free(p);
			return -1;
		}
		p->started++;
	}
	*out = p;
	return 0;
}

void pool_join(struct pool *p)
{
	for (; p && p->started > 0; p->started--)
		pthread_join(p->members[p->started - 1].thread, NULL);
}

void pool_free(struct pool *p)
{
	free(p);
}
