/* SPDX-License-Identifier: MIT
 *
 * Which node has which of the 16384 slots: the slot of a key is the CRC16 of its hash tag (https://redis.io/docs/latest/operate/oss_and_stack/reference/cluster-spec/).
 * One map serves all connections of an address. It is what some node said last, mended by each MOVED; whoever finds it wrong asks again. Nodes that
 * were named once are asked as well as those of the URL, each time another first: one that was cut off from the others does not know that it is behind. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "redis/connection.h"

#define SLOTS 16384
#define NODES_MAX 1024 /* replicas too; a cluster has a thousand at most */
#define NOBODY UINT16_MAX

struct cluster {
	pthread_mutex_t lock; /* guards all below; held across no I/O */
	struct redis_point *nodes;
	size_t nnodes;
	uint16_t of[SLOTS]; /* index of the master in nodes */
	size_t first;	    /* which is asked first */
};

struct cluster *cluster_new(void)
{
	struct cluster *c = calloc(1, sizeof *c);

	if (!c)
		return NULL;
	pthread_mutex_init(&c->lock, NULL);
	memset(c->of, 0xff, sizeof c->of);
	return c;
}

void cluster_free(struct cluster *c)
{
	if (!c)
		return;
	pthread_mutex_destroy(&c->lock);
	free(c->nodes);
	free(c);
}

/* --- The slot of a key. --------------------------------------------------------------------------------------------------- */

unsigned cluster_slot(const char *key, size_t n)
{
	const char *open = memchr(key, '{', n);
	const char *close = open ? memchr(open + 1, '}', (size_t)(key + n - open - 1)) : NULL;
	unsigned crc = 0;

	if (close && close > open + 1) {
		n = (size_t)(close - open - 1);
		key = open + 1;
	}
	for (size_t i = 0; i < n; i++) { /* CRC-16/XMODEM */
		crc ^= (unsigned)(unsigned char)key[i] << 8;
		for (int bit = 0; bit < 8; bit++)
			crc = crc & 0x8000 ? (crc << 1 ^ 0x1021) & 0xffff : crc << 1 & 0xffff;
	}
	return crc % SLOTS;
}

/* --- The map. ----------------------------------------------------------------------------------------------------------------- */

/* Under the lock. NOBODY: no memory, or too many. */
static uint16_t index_of(struct cluster *c, const struct redis_point *p)
{
	struct redis_point *more;

	for (size_t i = 0; i < c->nnodes; i++)
		if (c->nodes[i].port == p->port && strcmp(c->nodes[i].host, p->host) == 0)
			return (uint16_t)i;
	more = c->nnodes < NODES_MAX ? realloc(c->nodes, (c->nnodes + 1) * sizeof *more) : NULL;
	if (!more)
		return NOBODY;
	c->nodes = more;
	c->nodes[c->nnodes] = *p;
	return (uint16_t)c->nnodes++;
}

/* A node as CLUSTER SLOTS names it; where it does not know its own host, it is the one that was asked. */
static bool read_node(const struct reply *node, const struct redis_point *asked, struct redis_point *out)
{
	size_t n = 0;
	const char *host = reply_bytes(reply_at(node, 0), &n);

	*out = *asked;
	if (n > REDIS_HOST_MAX)
		return false;
	if (host && n > 0 && strcmp(host, "?") != 0)
		memcpy(out->host, host, n + 1);
	if (!is_port(reply_int(reply_at(node, 1), 0)))
		return false;
	out->port = (int)reply_int(reply_at(node, 1), 0);
	return true;
}

/* One range of slots, its master and replicas: [from, to, master, replica...]. */
static bool read_range(const struct reply *range, const struct redis_point *asked, int64_t *from, int64_t *to,
		       struct redis_point *master)
{
	*from = reply_int(reply_at(range, 0), -1);
	*to = reply_int(reply_at(range, 1), -1);
	return *from >= 0 && *from <= *to && *to < SLOTS && read_node(reply_at(range, 2), asked, master);
}

/* Nodes that are gone are forgotten: what is said anew replaces what was. */
static bool replace(struct cluster *c, const struct reply *ranges, const struct redis_point *asked)
{
	struct redis_point p;
	int64_t from, to;
	bool any = false;

	for (size_t i = 0; i < reply_count(ranges) && !any; i++)
		any = read_range(reply_at(ranges, i), asked, &from, &to, &p);
	if (!any) /* what was known is better than nothing */
		return false;
	pthread_mutex_lock(&c->lock);
	c->nnodes = 0;
	memset(c->of, 0xff, sizeof c->of);
	for (size_t i = 0; i < reply_count(ranges); i++) {
		const struct reply *range = reply_at(ranges, i);
		uint16_t index;

		if (!read_range(range, asked, &from, &to, &p))
			continue;
		index = index_of(c, &p);
		for (int64_t slot = from; slot <= to; slot++)
			c->of[slot] = index;
		for (size_t replica = 3; replica < reply_count(range); replica++)
			if (read_node(reply_at(range, replica), asked, &p))
				(void)index_of(c, &p);
	}
	pthread_mutex_unlock(&c->lock);
	return true;
}

bool cluster_master(struct cluster *c, size_t n, struct redis_point *out)
{
	bool seen[NODES_MAX] = {false}, found = false;

	pthread_mutex_lock(&c->lock);
	for (size_t slot = 0; slot < SLOTS && !found; slot++) {
		if (c->of[slot] == NOBODY || seen[c->of[slot]])
			continue;
		seen[c->of[slot]] = true;
		found = n-- == 0;
		*out = c->nodes[c->of[slot]];
	}
	pthread_mutex_unlock(&c->lock);
	return found;
}

bool cluster_node(struct cluster *c, unsigned slot, struct redis_point *out)
{
	bool found;

	pthread_mutex_lock(&c->lock);
	found = c->of[slot] != NOBODY;
	if (found)
		*out = c->nodes[c->of[slot]];
	pthread_mutex_unlock(&c->lock);
	return found;
}

void cluster_moved(struct cluster *c, unsigned slot, const struct redis_point *to)
{
	pthread_mutex_lock(&c->lock);
	c->of[slot] = index_of(c, to);
	pthread_mutex_unlock(&c->lock);
}

/* --- Asking. ------------------------------------------------------------------------------------------------------------------ */

static int ask_one(const struct redis_address *a, const struct redis_point *p, struct error *err)
{
	struct redis *r = open_point(a, p, OPEN_LOGIN, SEEK_MS, err);
	struct reply *ranges = NULL;
	int rc = r ? redis_call(r, &ranges, err, "CLUSTER SLOTS") : -1;

	if (rc == 0 && !replace(a->cluster, ranges, p))
		rc = error_set(err, ERR_LINK, "it knows of no slots yet");
	if (rc && err->code == ERR_REFUSED && strstr(err->msg, "cluster support disabled"))
		other_kind(err, "no node of a cluster but a Redis alone", "redis://");
	else if (rc && err->code == ERR_REFUSED && strstr(err->msg, "unknown command"))
		other_kind(err, LIKELY_SENTINEL, "redis+sentinel://");
	reply_free(ranges);
	redis_close(r);
	return rc;
}

/* The n-th to be asked: those that are known, from another on each time, then those of the URL. */
static bool candidate(const struct redis_address *a, size_t n, size_t first, struct redis_point *out)
{
	struct cluster *c = a->cluster;
	size_t known;

	pthread_mutex_lock(&c->lock);
	known = c->nnodes;
	if (n < known)
		*out = c->nodes[(first + n) % known];
	pthread_mutex_unlock(&c->lock);
	if (n >= known && n - known < a->npoints)
		*out = a->points[n - known];
	return n < known + a->npoints;
}

int cluster_ask(const struct redis_address *a, struct error *err)
{
	struct error e = {0};
	struct redis_point p;
	char where[REDIS_HOST_MAX + 16];
	int64_t until_ms = clock_mono_ms() + REDIS_REPLY_MS; /* for all that are asked */
	size_t first;

	pthread_mutex_lock(&a->cluster->lock);
	first = a->cluster->first++;
	pthread_mutex_unlock(&a->cluster->lock);
	for (size_t n = 0; candidate(a, n, first, &p) && (n == 0 || clock_mono_ms() < until_ms); n++) {
		e = (struct error){0};
		if (ask_one(a, &p, &e) == 0)
			return 0;
		point_show(&p, where, sizeof where);
		error_prefix(&e, "node %s", where);
	}
	if (err)
		*err = e;
	return -1;
}
