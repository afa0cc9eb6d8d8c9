/* SPDX-License-Identifier: MIT
 *
 * The threads that take results: from the client's own reply lists, and by name what did not come that way. */
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/pick.h"
#include "lib/courier_inside.h"

#define TAKE_JOBS 100 /* results in one reply */
#define LOOK_JOBS 500 /* results looked at by name in one trip */
#define LOOK_EVERY_MS 1000
#define BLOCK_MS 1000	     /* one blocking command */
#define BLOCK_MARGIN_MS 5000 /* the read timeout beyond it */
#define BUSY_JOBS 8	     /* results in one go from which on more are let gather, */
#define BUSY_NAP_US 2000     /* for so long */
#define LINGER_MS                                                                                                      \
	600000 /* how long results are taken that nobody awaits: else they would stay in the list until they expire */

struct arrival {
	char id[ADWUMA_ID_MAX + 1];
	adwuma_result result; /* its json is NULL: none */
	size_t len;
};

static void read_arrival(struct arrival *a, struct reply *reply)
{
	struct span id;
	char *json;

	*a = (struct arrival){0};
	json = reply_steal(reply, &a->len);
	if (!json)
		return;
	result_init(&a->result, json, a->len, &id);
	(void)pick_text(id, a->id, ADWUMA_ID_MAX);
}

/* Each handle of that id has it; the last gets ours, others a copy. Where nobody waits, as for the bell, nothing happens. */
static void settle_arrival(struct courier *c, const struct place *place, struct arrival *a)
{
	adwuma_handle *last = NULL, *next;

	for (adwuma_handle *h = handles_alike(c, a->id); h; h = next) {
		next = h->next_alike;
		if (h->place != place || strcmp(h->id, a->id) != 0)
			continue;
		if (last) {
			char *copy = strndup(a->result.json, a->len);

			if (!copy) /* a later look finds it again */
				continue;
			last->result = a->result;
			last->result.json = copy;
			handle_settle(c, last, DONE);
		}
		last = h;
	}
	if (!last)
		return;
	last->result = a->result;
	a->result.json = NULL;
	handle_settle(c, last, DONE);
}

void courier_deliver(struct courier *c, const struct place *place, struct reply *const *replies, size_t n)
{
	struct arrival arrivals[TAKE_JOBS];

	for (size_t i = 0; i < n; i++)
		read_arrival(&arrivals[i], replies[i]);
	pthread_mutex_lock(&c->lock);
	c->arrived_ms = clock_mono_ms();
	for (size_t i = 0; i < n; i++) {
		if (!arrivals[i].result.json)
			continue;
		c->nunderway -= c->nunderway > 0;
		settle_arrival(c, place, &arrivals[i]);
	}
	courier_wake_watchers(c);
	pthread_mutex_unlock(&c->lock);
	for (size_t i = 0; i < n; i++)
		free(arrivals[i].result.json);
}

/* What is in a list, as far as it has come. */
static int drain(struct taker *t, const struct place *place, size_t *taken, struct error *e)
{
	size_t n = TAKE_JOBS;

	while (n == TAKE_JOBS) {
		struct reply *reply = NULL, *all[TAKE_JOBS];

		if (redis_call(t->link.redis, &reply, e, "LPOP %s %d", place->reply, TAKE_JOBS))
			return -1;
		n = reply_count(reply);
		if (n > TAKE_JOBS) {
			reply_free(reply);
			return error_set(e, ERR_LINK, "LPOP gave %zu results where %d were asked for", n, TAKE_JOBS);
		}
		for (size_t i = 0; i < n; i++)
			all[i] = reply_at(reply, i);
		if (n > 0)
			courier_deliver(t->courier, place, all, n);
		reply_free(reply);
		*taken += n;
	}
	return 0;
}

/* The i-th that it waits at. */
static const struct place *place_at(const struct taker *t, size_t i)
{
	return t->only ? t->only : t->courier->places[i];
}

static const struct place *place_of_list(const struct taker *t, const char *list, size_t n)
{
	for (size_t i = 0; list && i < n; i++)
		if (strcmp(place_at(t, i)->reply, list) == 0)
			return place_at(t, i);
	return NULL;
}

/* Blocks until something is in one of the lists, and takes it with what is behind it. */
static int take(struct taker *t, size_t nplaces, struct error *e)
{
	struct redis_args args = {0};
	struct reply *reply = NULL;
	const struct place *place;
	size_t taken = 0;
	int rc;

	redis_arg_str(&args, "BLPOP");
	for (size_t i = 0; i < nplaces; i++)
		redis_arg_str(&args, place_at(t, i)->reply);
	redis_arg_int(&args, BLOCK_MS / 1000);
	rc = redis_run(t->link.redis, &args, &reply, e);
	redis_args_release(&args);
	if (rc)
		return -1;
	place = place_of_list(t, reply_bytes(reply_at(reply, 0), NULL), nplaces);
	if (place) {
		struct reply *first = reply_at(reply, 1);

		courier_deliver(t->courier, place, &first, 1);
		rc = drain(t, place, &taken, e);
	}
	reply_free(reply);
	if (taken >= BUSY_JOBS) {
		const struct timespec nap = {.tv_nsec = BUSY_NAP_US * 1000};

		nanosleep(&nap, NULL);
	}
	return rc;
}

struct looked_at {
	char id[ADWUMA_ID_MAX + 1];
	const struct place *place;
};

/* Some of those that are awaited, from where the last look ended. Returns how many; *round: the last bucket was among them. */
static size_t choose(struct taker *t, struct looked_at *some, bool *round)
{
	struct courier *c = t->courier;
	size_t n = 0;

	pthread_mutex_lock(&c->lock);
	t->next_bucket &= c->nbuckets - 1;
	do {
		size_t in = 0;

		for (const adwuma_handle *h = c->buckets[t->next_bucket]; h; h = h->next_alike)
			in++;
		if (n > 0 && n + in > LOOK_JOBS)
			break;
		for (const adwuma_handle *h = c->buckets[t->next_bucket]; h && n < LOOK_JOBS; h = h->next_alike) {
			if (h->state != SUBMITTED || (t->only && h->place != t->only))
				continue;
			strcpy(some[n].id, h->id);
			some[n++].place = h->place;
		}
		t->next_bucket = (t->next_bucket + 1) & (c->nbuckets - 1);
	} while (t->next_bucket != 0);
	*round = t->next_bucket == 0;
	pthread_mutex_unlock(&c->lock);
	return n;
}

static int look(struct taker *t, bool at_all, size_t *found, struct error *e)
{
	struct looked_at *some = malloc(LOOK_JOBS * sizeof *some);
	bool round = false;
	int rc = 0;

	if (!some)
		return error_set(e, ERR_MEMORY, "no memory");
	if (at_all)
		t->next_bucket = 0;
	while (rc == 0 && !round) {
		size_t n = choose(t, some, &round);
		char name[KEY_MAX];

		for (size_t i = 0; rc == 0 && i < n; i++) {
			key_result(&some[i].place->keys, some[i].id, name);
			rc = redis_appendf(t->link.redis, e, "LINDEX %s 0", name);
		}
		for (size_t i = 0; rc == 0 && i < n; i++) {
			struct reply *reply = NULL;

			rc = redis_receive(t->link.redis, &reply, e);
			if (rc == 0 && reply_bytes(reply, NULL)) {
				courier_deliver(t->courier, some[i].place, &reply, 1);
				++*found;
			}
			reply_free(reply);
		}
		round = round || !at_all;
	}
	free(some);
	return rc;
}

/* How many lists to wait at; 0: it is time to end. */
static size_t await_work(struct taker *t)
{
	struct courier *c = t->courier;
	size_t n;

	pthread_mutex_lock(&c->lock);
	t->nwatched = 0;
	while (c->nawaited == 0 && !c->ending && (c->nunderway == 0 || clock_mono_ms() - c->arrived_ms > LINGER_MS))
		pthread_cond_wait(&c->awaited, &c->lock);
	n = c->ending ? 0 : t->only ? 1 : c->nplaces;
	t->nwatched = n;
	pthread_mutex_unlock(&c->lock);
	return n;
}

static int connect_taker(struct taker *t, struct error *e)
{
	struct courier *c = t->courier;

	if (link_connect(&t->link, e) || redis_set_timeout(t->link.redis, BLOCK_MS + BLOCK_MARGIN_MS, e))
		return -1;
	pthread_mutex_lock(&c->lock);
	t->fd = redis_fd(t->link.redis);
	if (c->ending)
		shutdown(t->fd, SHUT_RDWR);
	pthread_mutex_unlock(&c->lock);
	return 0;
}

static void disconnect_taker(struct taker *t)
{
	pthread_mutex_lock(&t->courier->lock);
	t->fd = -1;
	pthread_mutex_unlock(&t->courier->lock);
	link_disconnect(&t->link);
}

/* For those who wait in vain meanwhile. */
static void note_trouble(struct taker *t, const struct error *e)
{
	pthread_mutex_lock(&t->courier->lock);
	t->trouble = *e;
	pthread_mutex_unlock(&t->courier->lock);
}

void *courier_take_all(void *arg)
{
	struct taker *t = arg;
	int64_t looked_ms = 0;
	unsigned tries = 0;
	size_t nplaces;

	while ((nplaces = await_work(t)) > 0) {
		bool anew = !t->link.redis;
		int64_t now = clock_mono_ms();
		struct error e = {0};
		int rc = anew ? connect_taker(t, &e) : 0;

		if (rc == 0 && (anew || now - looked_ms >= LOOK_EVERY_MS)) {
			size_t found = 0;

			rc = look(t, anew, &found, &e);
			looked_ms = found >= LOOK_JOBS / 4 ? 0 : now; /* there are more, most likely */
		}
		if (rc == 0)
			rc = take(t, nplaces, &e);
		note_trouble(t, &e);
		if (rc == 0) {
			tries = 0;
			continue;
		}
		disconnect_taker(t);
		link_pause(tries++, LOOK_EVERY_MS);
	}
	disconnect_taker(t);
	return NULL;
}
