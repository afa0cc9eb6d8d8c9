/* SPDX-License-Identifier: MIT
 *
 * Handles that await their results, found by id, and how they move on. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/courier_inside.h"

#define MAYBE_THERE "; it was sent and may be done all the same: try again only under the same id"

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
	for (size_t i = 0; i < n; i++)
		for (adwuma_handle *h = old[i], *next; h; h = next) {
			next = h->next_alike;
			put_in_bucket(c, h);
		}
	free(old);
}

void handle_await(struct courier *c, adwuma_handle *h)
{
	if (c->nawaited >= c->nbuckets)
		grow(c);
	put_in_bucket(c, h);
	if (c->nawaited++ == 0)
		pthread_cond_broadcast(&c->awaited);
}

adwuma_handle *handles_alike(const struct courier *c, const char *id)
{
	return c->buckets[bucket_of(c, id)];
}

void handle_await_no_more(struct courier *c, adwuma_handle *h)
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

void handle_settle(struct courier *c, adwuma_handle *h, enum state state)
{
	handle_await_no_more(c, h);
	h->state = (unsigned char)state;
	c->wake = c->wake || h->watched;
	tell_later(c, h);
}

void courier_wake_watchers(struct courier *c)
{
	if (c->wake)
		pthread_cond_broadcast(&c->changed);
	c->wake = false;
}

void handle_lose(struct courier *c, adwuma_handle *h, bool maybe, const struct error *e)
{
	if (h->state >= DONE)
		return;
	h->error = calloc(1, sizeof *h->error);
	if (h->error)
		lib_tell(h->error, e);
	/* What was sent may have arrived. */
	if (h->error && maybe)
		strncat(h->error->message, MAYBE_THERE, sizeof h->error->message - strlen(h->error->message) - 1);
	handle_settle(c, h, LOST);
}

void handle_destroy(adwuma_handle *h)
{
	if (h->state == DONE)
		result_release(&h->result);
	else
		free(h->error);
	free(h);
}

void handle_carried_no_more(adwuma_handle *h)
{
	h->carried = false;
	if (h->forgotten && !h->to_tell)
		handle_destroy(h);
}
