/* SPDX-License-Identifier: MIT
 *
 * What callers do with handles: wait, be told, take results, cancel, free. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "lib/courier_inside.h"
#include "lib/sigpipe.h"

#define HUSKS_MAX 256

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

/* Why results of some queue do not come at the moment; NULL: they do. Under the lock. */
static const struct error *trouble_of(const struct courier *c)
{
	if (c->taker.trouble.code != ERR_NONE)
		return &c->taker.trouble;
	for (size_t i = 0; i < c->nplaces; i++)
		if (c->places[i]->taker.trouble.code != ERR_NONE)
			return &c->places[i]->taker.trouble;
	return NULL;
}

/* Under the lock. */
static int timed_out(const struct courier *c, int64_t timeout_ms, const char *what, const char *id, struct error *e)
{
	const struct error *trouble = trouble_of(c);
	long long ms = lib_timeout(timeout_ms);

	error_set(e, ERR_TIMEOUT, "%s %s within %lld.%03lld s", what, id, ms / 1000, ms % 1000);
	if (trouble) {
		size_t n = strlen(e->msg);

		snprintf(e->msg + n, sizeof e->msg - n, "; meanwhile: %.300s", trouble->msg);
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
	return courier_until(clock_mono_ms() + lib_timeout(timeout_ms));
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
				handle_destroy(h);
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
		handle_await_no_more(c, handle);
	*(handle->before ? &handle->before->next : &c->first) = handle->next;
	if (handle->next)
		handle->next->before = handle->before;
	handle->forgotten = true;
	if (handle->to_tell && ++c->nhusks >= HUSKS_MAX)
		drop_husks(c, handle);
	held = handle->carried || handle->to_tell;
	pthread_mutex_unlock(&c->lock);
	if (!held)
		handle_destroy(handle);
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
			handle_destroy(h);
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
