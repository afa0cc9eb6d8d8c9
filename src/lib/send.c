/* SPDX-License-Identifier: MIT
 *
 * The thread that hands over what callers put down, many jobs in a round trip. */
#include "base/clock.h"
#include "lib/courier_inside.h"

#define BELL_TTL_S 60
#define REPLY_MS_MIN 1000

static void mark(struct courier *c, struct item *item, const struct error *refused)
{
	adwuma_handle *h = item->handle;

	item->dealt_with = true;
	if (refused->code != ERR_NONE)
		handle_lose(c, h, item->unanswered > 0, refused);
	else if (h->state == PUT_DOWN)
		h->state = SUBMITTED;
	c->wake = c->wake || h->watched;
	if (refused->code == ERR_NONE) {
		c->nunderway++;
		c->arrived_ms = clock_mono_ms();
	}
	handle_carried_no_more(h);
}

/* Whether the taker must be told of new lists. It is blocked at those that it knows, so the first of them gets something without meaning. */
static bool bell_wanted(struct courier *c)
{
	bool wanted;

	pthread_mutex_lock(&c->lock);
	wanted = c->taker.nwatched > 0 && c->taker.nwatched < c->nplaces;
	pthread_mutex_unlock(&c->lock);
	return wanted;
}

static int append_bell(struct courier *c, struct error *e)
{
	const char *list = c->places[0]->reply;

	return redis_appendf(c->sending.redis, e, "RPUSH %s %s", list, "") ||
			       redis_appendf(c->sending.redis, e, "EXPIRE %s %d", list, BELL_TTL_S)
		     ? -1
		     : 0;
}

static int receive_bell(struct courier *c, struct error *e)
{
	for (int i = 0; i < 2; i++) {
		struct reply *reply = NULL;

		if (redis_receive(c->sending.redis, &reply, e))
			return -1;
		reply_free(reply);
	}
	return 0;
}

/* Where the jobs end that go to the same list in one command. */
static size_t run_end(const struct batch *b, size_t from, size_t to)
{
	size_t end = from + 1;

	while (end < to && !b->items[end].dealt_with && b->items[end].handle->place == b->items[from].handle->place)
		end++;
	return end;
}

/* Jobs of one queue; and of those whose ids may have been done before the results, since then nobody sends a reply. */
static int append_run(struct courier *c, struct batch *b, size_t from, size_t to, struct redis_args *args,
		      struct error *e)
{
	const struct keys *keys = &b->items[from].handle->place->keys;
	char result[KEY_MAX];

	redis_args_clear(args);
	redis_arg_str(args, "LPUSH");
	redis_arg_str(args, keys->ready);
	for (size_t i = from; i < to; i++) {
		b->items[i].unanswered++;
		redis_arg(args, b->texts.ptr + b->items[i].at, b->items[i].len);
	}
	if (redis_append(c->sending.redis, args, e))
		return -1;
	for (size_t i = from; i < to; i++) {
		if (!b->items[i].handle->known)
			continue;
		key_result(keys, b->items[i].handle->id, result);
		if (redis_appendf(c->sending.redis, e, "LINDEX %s 0", result))
			return -1;
	}
	return 0;
}

static int receive_known(struct courier *c, const struct batch *b, size_t from, size_t to, struct error *e)
{
	for (size_t i = from; i < to; i++) {
		struct reply *result = NULL;

		if (!b->items[i].handle->known)
			continue;
		if (redis_receive(c->sending.redis, &result, e))
			return -1;
		courier_deliver(c, b->items[i].handle->place, &result, 1);
		reply_free(result);
	}
	return 0;
}

/* *trouble: Redis's own, which may pass. A handle may go as soon as its job is dealt with, so what else is asked of it is asked before. */
static int receive_run(struct courier *c, struct batch *b, size_t from, size_t to, struct error *trouble,
		       struct error *e)
{
	struct reply *reply = NULL;
	struct verdict v;

	if (redis_receive(c->sending.redis, &reply, e))
		return -1;
	link_judge(&c->sending, reply, &v);
	reply_free(reply);
	if (receive_known(c, b, from, to, e))
		return -1;
	for (size_t i = from; i < to; i++)
		b->items[i].unanswered -= !v.unsure;
	if (link_broke(&v.e)) {
		*trouble = v.e;
		return 0;
	}
	pthread_mutex_lock(&c->lock);
	for (size_t i = from; i < to; i++)
		mark(c, &b->items[i], &v.e);
	courier_wake_watchers(c);
	pthread_mutex_unlock(&c->lock);
	return 0;
}

static void note_sending(struct courier *c, int fd)
{
	pthread_mutex_lock(&c->lock);
	c->sending_fd = fd;
	pthread_mutex_unlock(&c->lock);
}

static void stop_sending(struct courier *c)
{
	note_sending(c, -1);
	link_disconnect(&c->sending);
}

static int sending_failed(struct courier *c, struct error *e)
{
	stop_sending(c);
	return link_failed(&c->sending, e);
}

static int append_runs(struct courier *c, struct batch *b, struct error *e)
{
	struct redis_args args = {0};
	int rc = 0;

	for (size_t i = 0, end; i < b->n && rc == 0; i = end) {
		end = b->items[i].dealt_with ? i + 1 : run_end(b, i, b->n);
		if (!b->items[i].dealt_with)
			rc = append_run(c, b, i, end, &args, e);
	}
	redis_args_release(&args);
	return rc;
}

static int64_t left_ms(struct courier *c, const struct batch *b)
{
	int64_t until = b->since_ms + c->client->submit_ms;

	pthread_mutex_lock(&c->lock);
	if (c->ending && c->end_ms < until)
		until = c->end_ms;
	pthread_mutex_unlock(&c->lock);
	return until - clock_mono_ms();
}

/* A server that hangs must not hold the sender, and whoever closes, much beyond the time. */
static int64_t reply_ms(struct courier *c, const struct batch *b)
{
	int64_t ms = left_ms(c, b);

	return ms < REPLY_MS_MIN ? REPLY_MS_MIN : ms < REDIS_REPLY_MS ? ms : REDIS_REPLY_MS;
}

/* One round trip for what is left. Where one run ends may not be looked up once it is dealt with: its handles may be gone. 0; or -1: the connection
 * broke, or Redis is in trouble. */
static int trip(struct courier *c, struct batch *b, struct error *e)
{
	struct error trouble = {0};
	bool bell = bell_wanted(c);

	if (link_connect(&c->sending, e))
		return -1;
	if (redis_set_timeout(c->sending.redis, reply_ms(c, b), e))
		return sending_failed(c, e);
	note_sending(c, redis_fd(c->sending.redis));
	if (append_runs(c, b, e) || (bell && append_bell(c, e)))
		return sending_failed(c, e);
	for (size_t i = 0, end; i < b->n; i = end) {
		end = b->items[i].dealt_with ? i + 1 : run_end(b, i, b->n);
		if (!b->items[i].dealt_with && receive_run(c, b, i, end, &trouble, e))
			return sending_failed(c, e);
	}
	if (bell && receive_bell(c, e))
		return sending_failed(c, e);
	if (c->sending.outdated)
		stop_sending(c);
	if (trouble.code == ERR_NONE)
		return 0;
	*e = trouble;
	return -1;
}

static void lose_rest(struct courier *c, struct batch *b, const struct error *e)
{
	pthread_mutex_lock(&c->lock);
	for (size_t i = 0; i < b->n; i++) {
		if (b->items[i].dealt_with)
			continue;
		handle_lose(c, b->items[i].handle, b->items[i].unanswered > 0, e);
		handle_carried_no_more(b->items[i].handle);
	}
	courier_wake_watchers(c);
	pthread_mutex_unlock(&c->lock);
}

static void send_batch(struct courier *c, struct batch *b)
{
	struct error e = {0};
	unsigned tries = 0;

	if (b->texts.failed) {
		error_set(&e, ERR_MEMORY, "no memory for the jobs that are handed over");
		lose_rest(c, b, &e);
	}
	while (!b->texts.failed && trip(c, b, &e)) {
		int64_t left = left_ms(c, b);

		if (left <= 0 || !link_may_heal(c->client, &e)) {
			lose_rest(c, b, &e);
			break;
		}
		link_pause(tries++, left);
	}
	b->n = 0;
	buf_trim(&b->texts, BATCH_BYTES);
}

void *courier_send_all(void *arg)
{
	struct courier *c = arg;

	for (;;) {
		struct batch *b;

		pthread_mutex_lock(&c->lock);
		while (c->gathering->n == 0 && !c->ending)
			pthread_cond_wait(&c->work, &c->lock);
		b = c->gathering;
		if (b->n > 0) {
			c->gathering = b == &c->batches[0] ? &c->batches[1] : &c->batches[0];
			pthread_cond_broadcast(&c->changed); /* there is room */
		}
		pthread_mutex_unlock(&c->lock);
		if (b->n == 0)
			return NULL;
		send_batch(c, b);
	}
}
