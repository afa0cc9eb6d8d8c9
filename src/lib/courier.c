/* SPDX-License-Identifier: MIT
 *
 * See courier.h. Here: its beginning and end, and what callers put down. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/digest.h"
#include "lib/courier_inside.h"

#define FIRST_BUCKETS 64
#define STACK_BYTES (256 * 1024)
#define CLOSE_MARGIN_MS 500

/* --- Beginning and end. --------------------------------------------------------------------------------------------- */

/* A host's signals are not for our threads. */
static int begin_thread(pthread_t *thread, void *(*run)(void *), void *arg, const char *name)
{
	sigset_t all, before;
	pthread_attr_t attr;
	int rc;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &before);
	rc = pthread_create(thread, &attr, run, arg);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attr);
	if (rc == 0)
		pthread_setname_np(*thread, name);
	return rc;
}

static void release(struct courier *c)
{
	while (c->first_settled) {
		adwuma_handle *h = c->first_settled;

		c->first_settled = h->next_alike;
		if (h->forgotten)
			handle_destroy(h);
	}
	while (c->first) {
		adwuma_handle *next = c->first->next;

		handle_destroy(c->first);
		c->first = next;
	}
	for (size_t i = 0; i < c->nplaces; i++) {
		link_release(&c->places[i]->taker.link);
		free(c->places[i]);
	}
	for (int i = 0; i < 2; i++) {
		buf_release(&c->batches[i].texts);
		free(c->batches[i].items);
	}
	link_release(&c->sending);
	link_release(&c->taker.link);
	free(c->buckets);
	if (c->told_by >= 0)
		close(c->told_by);
	pthread_mutex_destroy(&c->lock);
	pthread_cond_destroy(&c->work);
	pthread_cond_destroy(&c->awaited);
	pthread_cond_destroy(&c->changed);
	free(c);
}

static void init_taker(struct courier *c, struct taker *t, const struct place *only)
{
	*t = (struct taker){.courier = c, .only = only, .fd = -1};
	link_init(&t->link, c->client);
	t->link.key = only ? only->reply : NULL;
}

static int begin_taker(struct taker *t, struct error *e)
{
	t->runs = begin_thread(&t->thread, courier_take_all, t, "adwuma-take") == 0;
	return t->runs ? 0 : error_set(e, ERR_SYSTEM, "no thread could be made");
}

static void init(struct courier *c, struct adwuma *client)
{
	pthread_condattr_t mono;

	c->client = client;
	c->spreads = redis_spreads(&client->address);
	c->told_by = c->sending_fd = -1;
	link_init(&c->sending, client);
	init_taker(c, &c->taker, NULL);
	pthread_mutex_init(&c->lock, NULL);
	pthread_condattr_init(&mono);
	pthread_condattr_setclock(&mono, CLOCK_MONOTONIC);
	pthread_cond_init(&c->work, NULL);
	pthread_cond_init(&c->awaited, NULL);
	pthread_cond_init(&c->changed, &mono);
	pthread_condattr_destroy(&mono);
	memcpy(c->reply_name, "lib-", 4);
	random_hex(c->reply_name + 4, 24);
	for (int i = 0; i < 2; i++) {
		c->batches[i].texts = BUF_INIT(BATCH_BYTES + 2 * client->max_job_bytes);
		c->batches[i].items = malloc(BATCH_JOBS * sizeof *c->batches[i].items);
	}
	c->gathering = &c->batches[0];
	c->buckets = calloc(FIRST_BUCKETS, sizeof(adwuma_handle *));
	c->nbuckets = FIRST_BUCKETS;
}

static struct courier *begin(struct adwuma *client, struct error *e)
{
	struct courier *c = calloc(1, sizeof *c);

	if (!c) {
		error_set(e, ERR_MEMORY, "out of memory");
		return NULL;
	}
	init(c, client);
	if (!c->buckets || !c->batches[0].items || !c->batches[1].items) {
		error_set(e, ERR_MEMORY, "out of memory");
		release(c);
		return NULL;
	}
	c->has_sender = begin_thread(&c->sender, courier_send_all, c, "adwuma-send") == 0;
	if (!c->has_sender)
		error_set(e, ERR_SYSTEM, "no thread could be made");
	else if (c->spreads || begin_taker(&c->taker, e) == 0)
		return c;
	courier_end(c);
	return NULL;
}

struct courier *courier_of(struct adwuma *client, struct error *e)
{
	struct courier *c;

	pthread_mutex_lock(&client->lock);
	if (!client->courier)
		client->courier = begin(client, e);
	c = client->courier;
	pthread_mutex_unlock(&client->lock);
	return c;
}

/* Results that nobody takes any more would wait for their expiry. */
static void drop_lists(struct courier *c)
{
	struct error e;

	if (c->sending.redis && redis_set_timeout(c->sending.redis, CLOSE_MARGIN_MS, &e))
		return;
	for (size_t i = 0; i < c->nplaces && c->sending.redis; i++)
		if (redis_call(c->sending.redis, NULL, &e, "UNLINK %s", c->places[i]->reply) && link_broke(&e))
			return;
}

/* A Redis that does not answer is not waited for beyond the time. */
static void join_sender(struct courier *c)
{
	struct timespec end;

	clock_gettime(CLOCK_REALTIME, &end); /* of the two joins with a limit the sanitizer knows this one only */
	end.tv_sec += (c->client->submit_ms + CLOSE_MARGIN_MS) / 1000;
	if (pthread_timedjoin_np(c->sender, NULL, &end) == 0)
		return;
	pthread_mutex_lock(&c->lock);
	if (c->sending_fd >= 0)
		shutdown(c->sending_fd, SHUT_RDWR);
	pthread_mutex_unlock(&c->lock);
	pthread_join(c->sender, NULL);
}

/* Ends what it waits for. Under the lock. */
static void break_off(const struct taker *t)
{
	if (t->fd >= 0)
		shutdown(t->fd, SHUT_RDWR);
}

static void join(const struct taker *t)
{
	if (t->runs)
		pthread_join(t->thread, NULL);
}

void courier_end(struct courier *c)
{
	if (!c)
		return;
	pthread_mutex_lock(&c->lock);
	c->ending = true;
	c->end_ms = clock_mono_ms() + c->client->submit_ms;
	pthread_cond_broadcast(&c->work);
	pthread_mutex_unlock(&c->lock);
	if (c->has_sender)
		join_sender(c);
	pthread_mutex_lock(&c->lock);
	pthread_cond_broadcast(&c->awaited);
	break_off(&c->taker);
	for (size_t i = 0; i < c->nplaces; i++)
		break_off(&c->places[i]->taker);
	pthread_mutex_unlock(&c->lock);
	join(&c->taker);
	for (size_t i = 0; i < c->nplaces; i++)
		join(&c->places[i]->taker);
	drop_lists(c);
	release(c);
}

const char *courier_reply_name(const struct courier *c)
{
	return c->reply_name;
}

/* --- Putting down. -------------------------------------------------------------------------------------------------- */

/* That of a queue, made where there is none; NULL with *e. Under the lock. */
static struct place *find_place(struct courier *c, const char *queue, struct error *e)
{
	struct place *p;

	for (size_t i = 0; i < c->nplaces; i++)
		if (strcmp(c->places[i]->name, queue) == 0)
			return c->places[i];
	if (c->nplaces == QUEUES_MAX) {
		error_set(e, ERR_INVALID, "a client serves %d queues at most", QUEUES_MAX);
		return NULL;
	}
	p = calloc(1, sizeof *p);
	if (!p) {
		error_set(e, ERR_MEMORY, "out of memory");
		return NULL;
	}
	p->courier = c;
	init_taker(c, &p->taker, p);
	strcpy(p->name, queue);
	keys_init(&p->keys, c->client->prefix, queue);
	key_reply(&p->keys, c->reply_name, p->reply);
	if (c->spreads && begin_taker(&p->taker, e)) {
		free(p);
		return NULL;
	}
	c->places[c->nplaces++] = p;
	return p;
}

struct timespec courier_until(int64_t mono_ms)
{
	return (struct timespec){.tv_sec = mono_ms / 1000, .tv_nsec = mono_ms % 1000 * 1000000};
}

/* Under the lock. */
static int wait_for_room(struct courier *c, size_t len, struct error *e)
{
	struct timespec end = courier_until(clock_mono_ms() + c->client->submit_ms);
	char where[256];

	while (c->gathering->n == BATCH_JOBS || (c->gathering->n > 0 && c->gathering->texts.len + len > BATCH_BYTES)) {
		if (pthread_cond_timedwait(&c->changed, &c->lock, &end) != ETIMEDOUT)
			continue;
		redis_address_show(&c->client->address, where, sizeof where);
		return error_set(e, ERR_LINK,
				 "Redis at %s takes no jobs: %zu wait to be handed over, and there is no room for more",
				 where, c->gathering->n);
	}
	return 0;
}

static void put_down(struct courier *c, adwuma_handle *h, const struct buf *job)
{
	struct batch *b = c->gathering;

	if (b->n == 0) {
		b->since_ms = clock_mono_ms();
		pthread_cond_signal(&c->work);
	}
	b->items[b->n++] = (struct item){.handle = h, .at = b->texts.len, .len = job->len};
	buf_add(&b->texts, job->ptr, job->len);
	h->carried = true;
	h->next = c->first;
	if (c->first)
		c->first->before = h;
	c->first = h;
	handle_await(c, h);
}

adwuma_handle *courier_hand(struct courier *c, const char *queue, const char *id, bool known, const struct buf *job,
			    struct error *e)
{
	adwuma_handle *h = calloc(1, sizeof *h + strlen(id) + 1);
	bool down;

	if (!h) {
		error_set(e, ERR_MEMORY, "out of memory");
		return NULL;
	}
	h->known = known;
	strcpy(h->id, id);
	pthread_mutex_lock(&c->lock);
	if (wait_for_room(c, job->len, e) == 0)
		h->place = find_place(c, queue, e);
	down = h->place != NULL;
	if (down)
		put_down(c, h, job);
	pthread_mutex_unlock(&c->lock);
	if (down)
		return h;
	free(h);
	return NULL;
}
