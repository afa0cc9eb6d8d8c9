/* SPDX-License-Identifier: MIT
 *
 * Who has a connection to the master does not hear that sentinels have named another: one that is replaced while it is well goes on taking writes for
 * some ten seconds (until it is told, SENTINEL_PUBLISH_PERIOD * 4 later: Redis's sentinel.c), and forgets them all when it becomes a replica.
 * So a thread asks, as whoever connects does, and cuts the connections to any other: their owners find them broken, and connect anew.
 *
 * The thread begins with the first connection, and ends with the address. It only ever shuts a connection down; the owner closes it, after it was
 * taken off the list. */
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "redis/connection.h"

#define LOOK_MS 1000
#define STACK_BYTES (256 * 1024)

struct watch {
	pthread_mutex_t lock; /* guards all below; held across no I/O */
	pthread_cond_t ended;
	const struct redis_address *address;
	pthread_t thread;
	bool runs, ending;
	struct redis *first; /* of all connections; linked by their next and before */
};

struct watch *watch_new(void)
{
	struct watch *w = calloc(1, sizeof *w);
	pthread_condattr_t mono;

	if (!w)
		return NULL;
	pthread_mutex_init(&w->lock, NULL);
	pthread_condattr_init(&mono);
	pthread_condattr_setclock(&mono, CLOCK_MONOTONIC);
	pthread_cond_init(&w->ended, &mono);
	pthread_condattr_destroy(&mono);
	return w;
}

static bool is_to(const struct redis *r, const struct redis_point *p)
{
	return r->peer.port == p->port && strcmp(r->peer.host, p->host) == 0;
}

/* Whether there is a connection to any other; those are cut. */
static bool has_others(struct watch *w, const struct redis_point *master, bool cut)
{
	bool has = false;

	pthread_mutex_lock(&w->lock);
	for (struct redis *r = w->first; r; r = r->next) {
		if (is_to(r, master))
			continue;
		has = true;
		if (cut)
			shutdown(r->c->fd, SHUT_RDWR);
	}
	pthread_mutex_unlock(&w->lock);
	return has;
}

/* One that is named but does not say so itself, or is away, is not worth a connection that works. */
static void look(struct watch *w)
{
	struct redis_point named;
	struct redis *r;
	size_t next = 0;

	if (sentinel_ask(w->address, &next, &named, NULL) || !has_others(w, &named, false))
		return;
	r = open_named(w->address, OPEN_MASTER, NULL);
	if (r)
		has_others(w, &r->peer, true);
	redis_close(r);
}

/* False: it is time to end. */
static bool wait_for_next(struct watch *w)
{
	struct timespec at;
	bool goes_on;

	clock_gettime(CLOCK_MONOTONIC, &at);
	at.tv_sec += LOOK_MS / 1000;
	pthread_mutex_lock(&w->lock);
	while (!w->ending && pthread_cond_timedwait(&w->ended, &w->lock, &at) == 0)
		;
	goes_on = !w->ending;
	pthread_mutex_unlock(&w->lock);
	return goes_on;
}

static void *watch_all(void *arg)
{
	struct watch *w = arg;

	while (wait_for_next(w))
		look(w);
	return NULL;
}

/* Without memory for a thread it is tried again with the next connection. Under the lock. A host program's signals are not for it. */
static void begin(struct watch *w)
{
	sigset_t all, before;
	pthread_attr_t attr;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &before);
	w->runs = pthread_create(&w->thread, &attr, watch_all, w) == 0;
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attr);
	if (w->runs)
		pthread_setname_np(w->thread, "adwuma-watch");
}

void watch_add(const struct redis_address *a, struct redis *r)
{
	struct watch *w = a->watch;

	r->watch = w;
	pthread_mutex_lock(&w->lock);
	r->next = w->first;
	if (r->next)
		r->next->before = r;
	w->first = r;
	w->address = a;
	if (!w->runs)
		begin(w);
	pthread_mutex_unlock(&w->lock);
}

void watch_remove(struct redis *r)
{
	struct watch *w = r->watch;

	pthread_mutex_lock(&w->lock);
	if (r->next)
		r->next->before = r->before;
	*(r->before ? &r->before->next : &w->first) = r->next;
	pthread_mutex_unlock(&w->lock);
}

void watch_free(struct watch *w)
{
	if (!w)
		return;
	pthread_mutex_lock(&w->lock);
	w->ending = true;
	pthread_cond_signal(&w->ended);
	pthread_mutex_unlock(&w->lock);
	if (w->runs)
		pthread_join(w->thread, NULL);
	pthread_cond_destroy(&w->ended);
	pthread_mutex_destroy(&w->lock);
	free(w);
}
