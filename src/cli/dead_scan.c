/* SPDX-License-Identifier: MIT
 *
 * Entries come in on the left and leave anywhere: by the cap on the right, by commands like ours in the middle. So a
 * position means little. Each page begins with the last entry of the page before; when that is not there, so many have
 * left that others may have moved past us: the walk goes back to one that was met, and skips from there on what it met
 * already. What was met is remembered as 64 bits of its SHA-1. */
#include "cli/dead_scan.h"

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/digest.h"
#include "cli/page.h"

#define SET_FIRST 1024

struct set { /* open addressing, at most half full; 0 is no member */
	uint64_t *at;
	size_t n, cap;
};

struct walk {
	struct redis *redis;
	const char *key;
	bool oldest_first;
	bool check; /* skip what was met already */
	size_t at;  /* entries from the end where it began that were met */
	size_t piece, back;
	size_t left;   /* how many there can be yet of those that were there at the beginning */
	uint64_t last; /* oldest first: the newest entry then; 0: none */
	bool at_last;
	struct set met;
	struct span *entries; /* of a page */
};

/* --- What was met. ------------------------------------------------------------------------------------------------ */

static uint64_t mark_of(const char *s, size_t n)
{
	char hex[SHA1_HEX_LEN + 1];

	sha1_hex(s, n, hex);
	hex[16] = '\0';
	return strtoull(hex, NULL, 16) | 1;
}

static size_t place(const struct set *s, uint64_t mark)
{
	size_t i = (size_t)(mark >> 8) & (s->cap - 1);

	while (s->at[i] && s->at[i] != mark)
		i = (i + 1) & (s->cap - 1);
	return i;
}

static bool set_has(const struct set *s, uint64_t mark)
{
	return s->at && s->at[place(s, mark)] == mark;
}

static bool set_grow(struct set *s)
{
	struct set wider = {.cap = s->cap ? s->cap * 2 : SET_FIRST};

	wider.at = calloc(wider.cap, sizeof *wider.at);
	if (!wider.at)
		return false;
	for (size_t i = 0; i < s->cap; i++)
		if (s->at[i])
			wider.at[place(&wider, s->at[i])] = s->at[i];
	wider.n = s->n;
	free(s->at);
	*s = wider;
	return true;
}

static int set_add(struct set *s, uint64_t mark, struct error *err)
{
	size_t i;

	if ((!s->at || s->n * 2 >= s->cap) && !set_grow(s))
		return error_set(err, ERR_MEMORY, "no memory to remember %zu dead jobs", s->n);
	i = place(s, mark);
	s->n += s->at[i] == 0;
	s->at[i] = mark;
	return 0;
}

/* --- Walking. ----------------------------------------------------------------------------------------------------- */

static int begin(struct walk *w, struct error *err)
{
	struct reply *reply = NULL;
	const char *newest;
	size_t len = 0;

	w->left = SIZE_MAX;
	if (!w->oldest_first)
		return 0; /* new ones may be met, and must not count; the end is the end of the list */
	if (redis_call(w->redis, &reply, err, "LLEN %s", w->key))
		return -1;
	w->left = (size_t)reply_int(reply, 0);
	reply_free(reply);
	if (redis_call(w->redis, &reply, err, "LINDEX %s 0", w->key))
		return -1;
	newest = reply_bytes(reply, &len);
	w->last = newest ? mark_of(newest, len) : 0;
	reply_free(reply);
	return 0;
}

/* n elements from number `from` on, counted from the end where the walk began. */
static int read_page(const struct walk *w, size_t from, size_t n, struct reply **out, struct error *err)
{
	long long first = (long long)from, last = (long long)(from + n - 1);

	if (w->oldest_first)
		return redis_call(w->redis, out, err, "LRANGE %s %lld %lld", w->key, -last - 1, -first - 1);
	return redis_call(w->redis, out, err, "LRANGE %s %lld %lld", w->key, first, last);
}

static struct span element(const struct walk *w, const struct reply *reply, size_t i)
{
	struct span entry = {0};

	entry.ptr = reply_bytes(reply_at(reply, w->oldest_first ? reply_count(reply) - 1 - i : i), &entry.len);
	return entry;
}

static bool is_anchored(const struct walk *w, const struct reply *reply)
{
	struct span entry = element(w, reply, 0);

	return entry.ptr && set_has(&w->met, mark_of(entry.ptr, entry.len));
}

/* Gives the new ones among the elements from number `from` on to page. Returns as page does, and how far it came. */
static int hand_out(struct walk *w, const struct reply *reply, size_t from, dead_page_fn *page, void *ctx,
		    struct error *err)
{
	size_t count = reply_count(reply), n = 0, bytes = 0, removed = 0;
	int rc;

	for (size_t i = from; i < count && !w->at_last && n < w->left; i++) {
		struct span entry = element(w, reply, i);
		uint64_t mark = mark_of(entry.ptr ? entry.ptr : "", entry.len);

		bytes += entry.len;
		if (w->check && set_has(&w->met, mark))
			continue;
		if (set_add(&w->met, mark, err))
			return -1;
		w->at_last = w->last && mark == w->last;
		w->entries[n++] = entry;
	}
	rc = n ? page(ctx, w->entries, n, &removed, err) : 0;
	w->left -= n;
	w->at += count - from - removed;
	w->piece = page_next(count - from, bytes);
	w->back = w->piece;
	return rc;
}

/* One page. Returns as a page function does. */
static int step(struct walk *w, dead_page_fn *page, void *ctx, struct error *err)
{
	size_t anchor = w->at > 0;
	struct reply *reply = NULL;
	int rc = 1;

	if (read_page(w, w->at - anchor, w->piece + anchor, &reply, err))
		return -1;
	if (anchor && !is_anchored(w, reply)) {
		w->at -= w->back < w->at ? w->back : w->at;
		w->back *= 2;
		w->check = true;
		rc = 0;
	} else if (reply_count(reply) > anchor) {
		rc = hand_out(w, reply, anchor, page, ctx, err);
	}
	reply_free(reply);
	return rc;
}

int dead_scan(struct redis *redis, const struct keys *keys, bool oldest_first, dead_page_fn *page, void *ctx,
	      struct error *err)
{
	/* From the left new entries push those that were met before us again. */
	struct walk w = {.redis = redis,
			 .key = keys->dead,
			 .oldest_first = oldest_first,
			 .check = !oldest_first,
			 .piece = PAGE_FIRST,
			 .back = PAGE_FIRST};
	int rc = begin(&w, err);

	w.entries = calloc(PAGE_MAX, sizeof *w.entries);
	if (rc == 0 && !w.entries)
		rc = error_set(err, ERR_MEMORY, "no memory to look at dead jobs");
	while (rc == 0 && w.left > 0 && !w.at_last)
		rc = step(&w, page, ctx, err);
	free(w.entries);
	free(w.met.at);
	return rc < 0 ? -1 : 0;
}
