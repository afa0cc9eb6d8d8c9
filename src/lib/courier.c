/* SPDX-License-Identifier: MIT */
#include "lib/courier.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/pick.h"
#include "lib/draft.h"
#include "lib/result.h"
#include "lib/sigpipe.h"

#define BATCH_JOBS 1024		/* jobs that gather while a trip is under way */
#define BATCH_BYTES (64 * 1024) /* of their texts, beyond the first */
#define TRIP_JOBS 1000		/* their replies fit a socket's buffer, so writing never waits for reading */
#define TAKE_JOBS 100		/* results in one reply */
#define LOOK_JOBS 500		/* results looked at by name in one trip */
#define LOOK_EVERY_MS 1000
#define BLOCK_MS 1000	     /* one blocking command */
#define BLOCK_MARGIN_MS 5000 /* the read timeout beyond it */
#define BUSY_JOBS 8	     /* results in one go from which on more are let gather, */
#define BUSY_NAP_US 2000     /* for so long */
#define FIRST_BUCKETS 64
#define STACK_BYTES (256 * 1024)
#define LINGER_MS                                                                                                      \
	600000 /* how long results are taken that nobody awaits: else they would stay in the list until they expire */
#define HUSKS_MAX 256
#define MAYBE_THERE "; it was sent and may be done all the same: try again only under the same id"
#define CLOSE_MARGIN_MS 500
#define BELL_TTL_S 60

enum state {
	PUT_DOWN,  /* waits to be handed over */
	SUBMITTED, /* Redis has it */
	DONE,	   /* its result is here */
	LOST,	   /* it could not be handed over: error says why */
};

struct adwuma_handle {
	struct place *place;
	adwuma_handle *next, *before; /* of all of the client */
	adwuma_handle
		*next_alike; /* in a bucket, while its result is awaited; of those to be told of, when it is settled */
	union {
		adwuma_result result;	    /* DONE */
		struct adwuma_error *error; /* LOST; NULL: no memory */
	};
	void *data;
	unsigned char state;
	bool carried;	/* the sending thread still looks at it */
	bool forgotten; /* nobody else does */
	bool known;	/* its id may have been done before */
	bool to_tell;	/* is in the list of settled ones */
	bool watched;	/* somebody waits for it */
	char id[];
};

/* A queue that jobs went to. Never changes once it is there. */
struct place {
	struct courier *courier;
	struct keys keys;
	char name[QUEUE_NAME_MAX + 1];
	char reply[KEY_MAX];
};

struct item {
	adwuma_handle *handle;
	size_t at, len; /* in texts */
	bool sent;	/* at least once, and not acknowledged: Redis may have it */
	bool dealt_with;
};

struct batch {
	struct buf texts;
	struct item *items;
	size_t n;
	int64_t since_ms; /* when the first was put down */
};

struct courier {
	struct adwuma *client;
	char reply_name[ADWUMA_ID_MAX + 1];
	pthread_t sender, taker;
	bool has_sender, has_taker;
	struct link sending, taking; /* each its thread's own */
	pthread_mutex_t lock;
	pthread_cond_t work;	/* for the sender */
	pthread_cond_t awaited; /* for the taker: there is something to wait for */
	pthread_cond_t changed; /* for callers: room, or a handle moved on */
	bool ending;
	int64_t end_ms;	      /* mono; when the sender gives up at the latest */
	struct error trouble; /* why results do not come at the moment; code ERR_NONE: they do */
	struct batch batches[2];
	struct batch *gathering;
	struct place *places[QUEUES_MAX];
	size_t nplaces, nwatched; /* the taker waits at the first nwatched */
	adwuma_handle **buckets;
	size_t nbuckets, nawaited, next_bucket;
	size_t nunderway; /* jobs whose results are still to come, also of handles that are gone: nobody else empties the list */
	int64_t arrived_ms; /* mono; when the last came, or a job was handed over */
	bool wake;	    /* a watched one has moved on */
	size_t nhusks;	    /* forgotten ones in the list of settled ones */
	adwuma_handle *first;
	adwuma_handle *first_settled, *last_settled;
	int told_by;		   /* an eventfd, -1: nobody asked */
	int taking_fd, sending_fd; /* -1: not connected */
};

/* --- The awaited ones, found by id. --------------------------------------------------------------------------------- */

static size_t bucket_of(const struct courier *c, const char *id)
{
	uint64_t h = 14695981039346656037ULL; /* FNV-1a */

	for (; *id; id++)
		h = (h ^ (unsigned char)*id) * 1099511628211ULL;
	return (size_t)(h ^ (h >> 32)) & (c->nbuckets - 1);
}

static void put_in_bucket(struct courier *c, adwuma_handle *h)
{
	adwuma_handle **head = &c->buckets[bucket_of(c, h->id)];

	h->next_alike = *head;
	*head = h;
}

/* Without memory the chains grow longer instead. */
static void grow(struct courier *c)
{
	size_t n = c->nbuckets;
	adwuma_handle **old = c->buckets, **more = calloc(2 * n, sizeof(adwuma_handle *));

	if (!more)
		return;
	c->buckets = more;
	c->nbuckets = 2 * n;
	c->next_bucket = 0;
	for (size_t i = 0; i < n; i++)
		for (adwuma_handle *h = old[i], *next; h; h = next) {
			next = h->next_alike;
			put_in_bucket(c, h);
		}
	free(old);
}

static void await(struct courier *c, adwuma_handle *h)
{
	if (c->nawaited >= c->nbuckets)
		grow(c);
	put_in_bucket(c, h);
	if (c->nawaited++ == 0)
		pthread_cond_signal(&c->awaited);
}

static void await_no_more(struct courier *c, adwuma_handle *h)
{
	for (adwuma_handle **at = &c->buckets[bucket_of(c, h->id)]; *at; at = &(*at)->next_alike) {
		if (*at != h)
			continue;
		*at = h->next_alike;
		c->nawaited--;
		return;
	}
}

/* --- Settling. Under the lock. -------------------------------------------------------------------------------------- */

static void tell_later(struct courier *c, adwuma_handle *h)
{
	const uint64_t one = 1;

	if (c->told_by < 0 || h->forgotten)
		return;
	if (!c->first_settled)
		(void)!write(c->told_by, &one, sizeof one);
	h->to_tell = true;
	h->next_alike = NULL;
	*(c->first_settled ? &c->last_settled->next_alike : &c->first_settled) = h;
	c->last_settled = h;
}

static void settle(struct courier *c, adwuma_handle *h, enum state state)
{
	await_no_more(c, h);
	h->state = (unsigned char)state;
	c->wake = c->wake || h->watched;
	tell_later(c, h);
}

/* Whoever waits for thousands is not woken by each. */
static void wake_watchers(struct courier *c)
{
	if (c->wake)
		pthread_cond_broadcast(&c->changed);
	c->wake = false;
}

static void lose(struct courier *c, adwuma_handle *h, bool maybe, const struct error *e)
{
	if (h->state >= DONE)
		return;
	h->error = calloc(1, sizeof *h->error);
	if (h->error)
		lib_tell(h->error, e);
	/* What was sent may have arrived. */
	if (h->error && maybe)
		strncat(h->error->message, MAYBE_THERE, sizeof h->error->message - strlen(h->error->message) - 1);
	settle(c, h, LOST);
}

static void destroy(adwuma_handle *h)
{
	if (h->state == DONE)
		result_release(&h->result);
	else
		free(h->error);
	free(h);
}

static void carried_no_more(adwuma_handle *h)
{
	h->carried = false;
	if (h->forgotten && !h->to_tell)
		destroy(h);
}

/* --- Handing over: the sender. -------------------------------------------------------------------------------------- */

/* What a reply to one job means. Returns whether it is dealt with; Redis's own troubles are not the job's. */
static bool acknowledged(const struct reply *reply, struct error *refused)
{
	refused->code = ERR_NONE;
	if (reply_error(reply))
		error_set(refused, ERR_REFUSED, "Redis refuses the job: %s", reply_error(reply));
	return !reply_error(reply) || !reply_passes(reply);
}

static void mark(struct courier *c, struct item *item, const struct error *refused)
{
	adwuma_handle *h = item->handle;

	item->dealt_with = true;
	if (refused->code != ERR_NONE)
		lose(c, h, false, refused);
	else if (h->state == PUT_DOWN)
		h->state = SUBMITTED;
	c->wake = c->wake || h->watched;
	if (refused->code == ERR_NONE) {
		c->nunderway++;
		c->arrived_ms = clock_mono_ms();
	}
	carried_no_more(h);
}

static void deliver(struct courier *c, const struct place *place, struct reply *const *replies, size_t n);

/* Whether the taker must be told of new lists. It is blocked at those that it knows, so the first of them gets something without meaning. */
static bool bell_wanted(struct courier *c)
{
	bool wanted;

	pthread_mutex_lock(&c->lock);
	wanted = c->nwatched > 0 && c->nwatched < c->nplaces;
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
		b->items[i].sent = true;
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
		deliver(c, b->items[i].handle->place, &result, 1);
		reply_free(result);
	}
	return 0;
}

/* *trouble: Redis's own, which may pass. A handle may go as soon as its job is dealt with, so what else is asked of it is asked before. */
static int receive_run(struct courier *c, struct batch *b, size_t from, size_t to, struct error *trouble,
		       struct error *e)
{
	struct error refused = {0};
	struct reply *reply = NULL;

	if (redis_receive(c->sending.redis, &reply, e))
		return -1;
	if (receive_known(c, b, from, to, e)) {
		reply_free(reply);
		return -1;
	}
	if (acknowledged(reply, &refused)) {
		pthread_mutex_lock(&c->lock);
		for (size_t i = from; i < to; i++)
			mark(c, &b->items[i], &refused);
		wake_watchers(c);
		pthread_mutex_unlock(&c->lock);
	} else {
		*trouble = refused;
		trouble->code = ERR_LINK;
	}
	reply_free(reply);
	return 0;
}

static void note_sending(struct courier *c, int fd)
{
	pthread_mutex_lock(&c->lock);
	c->sending_fd = fd;
	pthread_mutex_unlock(&c->lock);
}

static int sending_failed(struct courier *c, struct error *e)
{
	note_sending(c, -1);
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

/* One round trip for what is left. Where one run ends may not be looked up once it is dealt with: its handles may be gone. 0; or -1: the connection
 * broke, or Redis is in trouble. */
static int trip(struct courier *c, struct batch *b, struct error *e)
{
	struct error trouble = {0};
	bool bell = bell_wanted(c);

	if (link_connect(&c->sending, e))
		return -1;
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
		lose(c, b->items[i].handle, b->items[i].sent, e);
		carried_no_more(b->items[i].handle);
	}
	wake_watchers(c);
	pthread_mutex_unlock(&c->lock);
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

static void *send_all(void *arg)
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

/* --- Taking back: the taker. ---------------------------------------------------------------------------------------- */

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

	for (adwuma_handle *h = c->buckets[bucket_of(c, a->id)]; h; h = next) {
		next = h->next_alike;
		if (h->place != place || strcmp(h->id, a->id) != 0)
			continue;
		if (last) {
			char *copy = strndup(a->result.json, a->len);

			if (!copy) /* a later look finds it again */
				continue;
			last->result = a->result;
			last->result.json = copy;
			settle(c, last, DONE);
		}
		last = h;
	}
	if (!last)
		return;
	last->result = a->result;
	a->result.json = NULL;
	settle(c, last, DONE);
}

static void deliver(struct courier *c, const struct place *place, struct reply *const *replies, size_t n)
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
	wake_watchers(c);
	pthread_mutex_unlock(&c->lock);
	for (size_t i = 0; i < n; i++)
		free(arrivals[i].result.json);
}

/* What is in a list, as far as it has come. */
static int drain(struct courier *c, const struct place *place, size_t *taken, struct error *e)
{
	size_t n = TAKE_JOBS;

	while (n == TAKE_JOBS) {
		struct reply *reply = NULL, *all[TAKE_JOBS];

		if (redis_call(c->taking.redis, &reply, e, "LPOP %s %d", place->reply, TAKE_JOBS))
			return -1;
		n = reply_count(reply);
		for (size_t i = 0; i < n; i++)
			all[i] = reply_at(reply, i);
		if (n > 0)
			deliver(c, place, all, n);
		reply_free(reply);
		*taken += n;
	}
	return 0;
}

static const struct place *place_of_list(const struct courier *c, const char *list, size_t n)
{
	for (size_t i = 0; list && i < n; i++)
		if (strcmp(c->places[i]->reply, list) == 0)
			return c->places[i];
	return NULL;
}

/* Blocks until something is in one of the lists, and takes it with what is behind it. */
static int take(struct courier *c, size_t nplaces, struct error *e)
{
	struct redis_args args = {0};
	struct reply *reply = NULL;
	const struct place *place;
	size_t taken = 0;
	int rc;

	redis_arg_str(&args, "BLPOP");
	for (size_t i = 0; i < nplaces; i++)
		redis_arg_str(&args, c->places[i]->reply);
	redis_arg_int(&args, BLOCK_MS / 1000);
	rc = redis_run(c->taking.redis, &args, &reply, e);
	redis_args_release(&args);
	if (rc)
		return -1;
	place = place_of_list(c, reply_bytes(reply_at(reply, 0), NULL), nplaces);
	if (place) {
		struct reply *first = reply_at(reply, 1);

		deliver(c, place, &first, 1);
		rc = drain(c, place, &taken, e);
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
static size_t choose(struct courier *c, struct looked_at *some, bool *round)
{
	size_t n = 0;

	pthread_mutex_lock(&c->lock);
	do {
		size_t in = 0;

		for (const adwuma_handle *h = c->buckets[c->next_bucket]; h; h = h->next_alike)
			in++;
		if (n > 0 && n + in > LOOK_JOBS)
			break;
		for (const adwuma_handle *h = c->buckets[c->next_bucket]; h && n < LOOK_JOBS; h = h->next_alike) {
			if (h->state != SUBMITTED)
				continue;
			strcpy(some[n].id, h->id);
			some[n++].place = h->place;
		}
		c->next_bucket = (c->next_bucket + 1) & (c->nbuckets - 1);
	} while (c->next_bucket != 0);
	*round = c->next_bucket == 0;
	pthread_mutex_unlock(&c->lock);
	return n;
}

static int look(struct courier *c, bool at_all, size_t *found, struct error *e)
{
	struct looked_at *some = malloc(LOOK_JOBS * sizeof *some);
	bool round = false;
	int rc = 0;

	if (!some)
		return error_set(e, ERR_MEMORY, "no memory");
	if (at_all) {
		pthread_mutex_lock(&c->lock);
		c->next_bucket = 0;
		pthread_mutex_unlock(&c->lock);
	}
	while (rc == 0 && !round) {
		size_t n = choose(c, some, &round);
		char name[KEY_MAX];

		for (size_t i = 0; rc == 0 && i < n; i++) {
			key_result(&some[i].place->keys, some[i].id, name);
			rc = redis_appendf(c->taking.redis, e, "LINDEX %s 0", name);
		}
		for (size_t i = 0; rc == 0 && i < n; i++) {
			struct reply *reply = NULL;

			rc = redis_receive(c->taking.redis, &reply, e);
			if (rc == 0 && reply_bytes(reply, NULL)) {
				deliver(c, some[i].place, &reply, 1);
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
static size_t await_work(struct courier *c)
{
	size_t n;

	pthread_mutex_lock(&c->lock);
	c->nwatched = 0;
	while (c->nawaited == 0 && !c->ending && (c->nunderway == 0 || clock_mono_ms() - c->arrived_ms > LINGER_MS))
		pthread_cond_wait(&c->awaited, &c->lock);
	n = c->ending ? 0 : c->nplaces;
	c->nwatched = n;
	pthread_mutex_unlock(&c->lock);
	return n;
}

static int connect_taker(struct courier *c, struct error *e)
{
	if (link_connect(&c->taking, e) || redis_set_timeout(c->taking.redis, BLOCK_MS + BLOCK_MARGIN_MS, e))
		return -1;
	pthread_mutex_lock(&c->lock);
	c->taking_fd = redis_fd(c->taking.redis);
	if (c->ending)
		shutdown(c->taking_fd, SHUT_RDWR);
	pthread_mutex_unlock(&c->lock);
	return 0;
}

static void disconnect_taker(struct courier *c)
{
	pthread_mutex_lock(&c->lock);
	c->taking_fd = -1;
	pthread_mutex_unlock(&c->lock);
	link_disconnect(&c->taking);
}

/* For those who wait in vain meanwhile. */
static void note_trouble(struct courier *c, const struct error *e)
{
	pthread_mutex_lock(&c->lock);
	c->trouble = *e;
	pthread_mutex_unlock(&c->lock);
}

static void *take_all(void *arg)
{
	struct courier *c = arg;
	int64_t looked_ms = 0;
	unsigned tries = 0;
	size_t nplaces;

	while ((nplaces = await_work(c)) > 0) {
		bool anew = !c->taking.redis;
		int64_t now = clock_mono_ms();
		struct error e = {0};
		int rc = anew ? connect_taker(c, &e) : 0;

		if (rc == 0 && (anew || now - looked_ms >= LOOK_EVERY_MS)) {
			size_t found = 0;

			rc = look(c, anew, &found, &e);
			looked_ms = found >= LOOK_JOBS / 4 ? 0 : now; /* there are more, most likely */
		}
		if (rc == 0)
			rc = take(c, nplaces, &e);
		note_trouble(c, &e);
		if (rc == 0) {
			tries = 0;
			continue;
		}
		disconnect_taker(c);
		link_pause(tries++, LOOK_EVERY_MS);
	}
	disconnect_taker(c);
	return NULL;
}

/* --- Beginning and end. --------------------------------------------------------------------------------------------- */

/* A host's signals are not for our threads. */
static int begin_thread(pthread_t *thread, void *(*run)(void *), struct courier *c, const char *name)
{
	sigset_t all, before;
	pthread_attr_t attr;
	int rc;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_BYTES);
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &before);
	rc = pthread_create(thread, &attr, run, c);
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
			destroy(h);
	}
	while (c->first) {
		adwuma_handle *next = c->first->next;

		destroy(c->first);
		c->first = next;
	}
	for (size_t i = 0; i < c->nplaces; i++)
		free(c->places[i]);
	for (int i = 0; i < 2; i++) {
		buf_release(&c->batches[i].texts);
		free(c->batches[i].items);
	}
	link_release(&c->sending);
	link_release(&c->taking);
	free(c->buckets);
	if (c->told_by >= 0)
		close(c->told_by);
	pthread_mutex_destroy(&c->lock);
	pthread_cond_destroy(&c->work);
	pthread_cond_destroy(&c->awaited);
	pthread_cond_destroy(&c->changed);
	free(c);
}

static void init(struct courier *c, struct adwuma *client)
{
	pthread_condattr_t mono;

	c->client = client;
	c->told_by = c->taking_fd = c->sending_fd = -1;
	link_init(&c->sending, client);
	link_init(&c->taking, client);
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
	c->has_sender = begin_thread(&c->sender, send_all, c, "adwuma-send") == 0;
	c->has_taker = c->has_sender && begin_thread(&c->taker, take_all, c, "adwuma-take") == 0;
	if (c->has_taker)
		return c;
	error_set(e, ERR_SYSTEM, "no thread could be made");
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

	clock_gettime(CLOCK_REALTIME, &end);
	end.tv_sec += (c->client->submit_ms + CLOSE_MARGIN_MS) / 1000;
	if (pthread_timedjoin_np(c->sender, NULL, &end) == 0)
		return;
	pthread_mutex_lock(&c->lock);
	if (c->sending_fd >= 0)
		shutdown(c->sending_fd, SHUT_RDWR);
	pthread_mutex_unlock(&c->lock);
	pthread_join(c->sender, NULL);
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
	if (c->taking_fd >= 0)
		shutdown(c->taking_fd, SHUT_RDWR);
	pthread_mutex_unlock(&c->lock);
	if (c->has_taker)
		pthread_join(c->taker, NULL);
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
	strcpy(p->name, queue);
	keys_init(&p->keys, c->client->prefix, queue);
	key_reply(&p->keys, c->reply_name, p->reply);
	c->places[c->nplaces++] = p;
	return p;
}

static struct timespec until(int64_t mono_ms)
{
	return (struct timespec){.tv_sec = mono_ms / 1000, .tv_nsec = mono_ms % 1000 * 1000000};
}

/* Under the lock. */
static int wait_for_room(struct courier *c, size_t len, struct error *e)
{
	struct timespec end = until(clock_mono_ms() + c->client->submit_ms);
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
	await(c, h);
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

/* --- Handles, for callers. ------------------------------------------------------------------------------------------ */

const char *adwuma_handle_id(const adwuma_handle *handle)
{
	return handle ? handle->id : "";
}

const char *adwuma_handle_queue(const adwuma_handle *handle)
{
	return handle ? handle->place->name : "";
}

void adwuma_handle_set_data(adwuma_handle *handle, void *data)
{
	if (handle)
		handle->data = data;
}

void *adwuma_handle_data(const adwuma_handle *handle)
{
	return handle ? handle->data : NULL;
}

/* Until a handle is in that state or a later one. Under the lock. */
static int wait_until(struct courier *c, adwuma_handle *h, enum state state, const struct timespec *end)
{
	h->watched = true;
	while (h->state < state)
		if (pthread_cond_timedwait(&c->changed, &c->lock, end) == ETIMEDOUT && h->state < state)
			return -1;
	return 0;
}

/* Under the lock. */
static int timed_out(const struct courier *c, int64_t timeout_ms, const char *what, const char *id, struct error *e)
{
	long long ms = lib_timeout(timeout_ms);

	error_set(e, ERR_TIMEOUT, "%s %s within %lld.%03lld s", what, id, ms / 1000, ms % 1000);
	if (c->trouble.code != ERR_NONE) {
		size_t n = strlen(e->msg);

		snprintf(e->msg + n, sizeof e->msg - n, "; meanwhile: %.300s", c->trouble.msg);
	}
	return -1;
}

static int copy_error(const adwuma_handle *h, struct adwuma_error *err)
{
	if (err && h->error)
		*err = *h->error;
	else if (err)
		*err = (struct adwuma_error){.code = ADWUMA_NO_MEMORY, .message = "out of memory"};
	return -1;
}

static struct timespec end_of(int64_t timeout_ms)
{
	return until(clock_mono_ms() + lib_timeout(timeout_ms));
}

static int no_handle(struct error *e)
{
	return error_set(e, ERR_INVALID, "there is no handle: the call that should have made it has failed");
}

/* That of all of them; NULL where there is none, or several, with *e. */
static struct courier *courier_of_all(adwuma_handle *const *handles, size_t n, struct error *e)
{
	struct courier *c = NULL;

	for (size_t i = 0; i < n; i++) {
		if (!handles[i] || handles[i]->place->courier == c)
			continue;
		if (c) {
			error_set(e, ERR_INVALID, "handles of several clients cannot be waited for together");
			return NULL;
		}
		c = handles[i]->place->courier;
	}
	if (!c)
		no_handle(e);
	return c;
}

static int await_state(adwuma_handle *const *handles, size_t n, enum state state, int64_t timeout_ms,
		       struct adwuma_error *err)
{
	struct timespec end = end_of(timeout_ms);
	const adwuma_handle *lost = NULL;
	struct error e = {0};
	struct courier *c = courier_of_all(handles, n, &e);
	bool missing = false;
	int rc = 0;

	if (!c)
		return n == 0 ? 0 : lib_tell(err, &e);
	pthread_mutex_lock(&c->lock);
	for (size_t i = n; i-- > 0 && rc == 0;) { /* the last first: when it is done most are */
		missing = missing || !handles[i];
		if (!handles[i])
			continue;
		if (wait_until(c, handles[i], state, &end))
			rc = timed_out(c, timeout_ms, state == DONE ? "no result of job" : "not handed over: job",
				       handles[i]->id, &e);
		else if (handles[i]->state == LOST)
			lost = handles[i]; /* the first of them, in the end */
	}
	if (rc || (missing && !lost && (rc = no_handle(&e))))
		lib_tell(err, &e);
	else if (lost)
		rc = copy_error(lost, err);
	pthread_mutex_unlock(&c->lock);
	return rc;
}

int adwuma_handle_submitted(adwuma_handle *handle, int64_t timeout_ms, struct adwuma_error *err)
{
	return await_state(&handle, 1, SUBMITTED, timeout_ms, err);
}

int adwuma_handle_wait(adwuma_handle *handle, int64_t timeout_ms, struct adwuma_error *err)
{
	return await_state(&handle, 1, DONE, timeout_ms, err);
}

int adwuma_gather(adwuma_handle *const *handles, size_t n, int64_t timeout_ms, struct adwuma_error *err)
{
	return await_state(handles, n, DONE, timeout_ms, err);
}

int adwuma_wait_first(adwuma_handle *const *handles, size_t n, int64_t timeout_ms, size_t *which,
		      struct adwuma_error *err)
{
	struct timespec end = end_of(timeout_ms);
	struct error e = {0};
	struct courier *c = courier_of_all(handles, n, &e);
	bool found = false, late = false;

	if (!c)
		return lib_tell(err, &e);
	pthread_mutex_lock(&c->lock);
	for (size_t i = 0; i < n; i++)
		if (handles[i])
			handles[i]->watched = true;
	while (!found && !late) {
		size_t i = 0;

		while (i < n && (!handles[i] || handles[i]->state < DONE))
			i++;
		found = i < n;
		if (found)
			*which = i;
		else
			late = pthread_cond_timedwait(&c->changed, &c->lock, &end) == ETIMEDOUT;
	}
	if (!found)
		timed_out(c, timeout_ms, "no result of any", "job", &e);
	pthread_mutex_unlock(&c->lock);
	return found ? 0 : lib_tell(err, &e);
}

const adwuma_result *adwuma_handle_result(adwuma_handle *handle)
{
	const adwuma_result *result;

	if (!handle)
		return NULL;
	pthread_mutex_lock(&handle->place->courier->lock);
	result = handle->state == DONE ? &handle->result : NULL;
	pthread_mutex_unlock(&handle->place->courier->lock);
	return result;
}

int adwuma_handle_error(adwuma_handle *handle, struct adwuma_error *err)
{
	struct error e = {0};
	int rc = 0;

	if (err)
		*err = (struct adwuma_error){.code = ADWUMA_OK};
	if (!handle) {
		no_handle(&e);
		return lib_tell(err, &e);
	}
	pthread_mutex_lock(&handle->place->courier->lock);
	if (handle->state == LOST)
		rc = copy_error(handle, err);
	pthread_mutex_unlock(&handle->place->courier->lock);
	return rc;
}

/* The descriptor is ready only while there is something to tell. */
static void quieten(struct courier *c)
{
	uint64_t count;

	if (!c->first_settled && c->told_by >= 0)
		(void)!read(c->told_by, &count, sizeof count);
}

/* For a program that asked for the descriptor and then frees handles without being told of them. but: is only taken out. Under the lock. */
static void drop_husks(struct courier *c, const adwuma_handle *but)
{
	adwuma_handle **at = &c->first_settled;

	c->last_settled = NULL;
	while (*at) {
		adwuma_handle *h = *at;

		if (h->forgotten) {
			*at = h->next_alike;
			h->to_tell = false;
			if (!h->carried && h != but)
				destroy(h);
			continue;
		}
		c->last_settled = h;
		at = &h->next_alike;
	}
	c->nhusks = 0;
	quieten(c);
}

void adwuma_handle_free(adwuma_handle *handle)
{
	struct courier *c;
	bool held; /* by the sender or the list of settled ones, who then destroy it */

	if (!handle)
		return;
	c = handle->place->courier;
	pthread_mutex_lock(&c->lock);
	if (handle->state < DONE)
		await_no_more(c, handle);
	*(handle->before ? &handle->before->next : &c->first) = handle->next;
	if (handle->next)
		handle->next->before = handle->before;
	handle->forgotten = true;
	if (handle->to_tell && ++c->nhusks >= HUSKS_MAX)
		drop_husks(c, handle);
	held = handle->carried || handle->to_tell;
	pthread_mutex_unlock(&c->lock);
	if (!held)
		destroy(handle);
}

int adwuma_fd(adwuma *client, struct adwuma_error *err)
{
	struct error e = {0};
	struct courier *c = client ? courier_of(client, &e) : NULL;
	int fd = -1;

	if (!client)
		return lib_no_client(err);

	if (c) {
		pthread_mutex_lock(&c->lock);
		if (c->told_by < 0)
			c->told_by = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
		fd = c->told_by;
		pthread_mutex_unlock(&c->lock);
		if (fd < 0)
			error_set(&e, ERR_SYSTEM, "no eventfd: %s", strerror(errno));
	}
	if (fd < 0)
		lib_tell(err, &e);
	return fd;
}

/* Under the lock. Those that were forgotten meanwhile go. */
static adwuma_handle *next_settled(struct courier *c)
{
	adwuma_handle *h = NULL;

	while (c->first_settled && !h) {
		h = c->first_settled;
		c->first_settled = h->next_alike;
		h->to_tell = false;
		if (!h->forgotten)
			break;
		c->nhusks--;
		if (!h->carried)
			destroy(h);
		h = NULL;
	}
	quieten(c);
	return h;
}

adwuma_handle *adwuma_next_settled(adwuma *client)
{
	adwuma_handle *h = NULL;
	struct courier *c;

	if (!client)
		return NULL;
	pthread_mutex_lock(&client->lock);
	c = client->courier;
	pthread_mutex_unlock(&client->lock);
	if (!c)
		return NULL;
	pthread_mutex_lock(&c->lock);
	h = next_settled(c);
	pthread_mutex_unlock(&c->lock);
	return h;
}

int adwuma_handle_cancel(adwuma_handle *handle, struct adwuma_error *err)
{
	struct error e = {0};
	struct sigpipe sigpipe;
	struct link *l;
	int rc = -1;

	if (!handle) {
		no_handle(&e);
		return lib_tell(err, &e);
	}
	sigpipe_block(&sigpipe);
	l = link_take(handle->place->courier->client, &e);
	for (int tries = 0; l && rc != 0 && tries < 2; tries++) { /* once more, for a connection that idled too long */
		if (link_connect(l, &e))
			break;
		rc = redis_call(l->redis, NULL, &e, "ZADD %s %lld %s", handle->place->keys.cancelled,
				(long long)clock_real_ms(), handle->id);
		if (rc)
			link_failed(l, &e);
	}
	if (l)
		link_give(l);
	sigpipe_restore(&sigpipe);
	return rc ? lib_tell(err, &e) : 0;
}
