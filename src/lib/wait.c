/* SPDX-License-Identifier: MIT
 *
 * The result of one job, by its id. It is awaited in pieces of at most WAIT_PIECE_MS with a read timeout a little above, so a server that fell silent is
 * noticed, and the wait goes on over a new connection.
 */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "lib/client.h"
#include "lib/inside.h"
#include "lib/sigpipe.h"

#define WAIT_PIECE_MS 5000  /* one blocking command; a dead peer is noticed soon after */
#define WAIT_MARGIN_MS 2000 /* the read timeout beyond it */
#define WAIT_SLICE_MS 50    /* how long one of several queues is waited on before the next one has its turn */

/* One command for the result: blocking for wait_ms, or a look where that is 0. *json stays NULL where there is none. */
static int ask(struct link *l, const char *queue, const char *id, int64_t wait_ms, char **json, struct error *e)
{
	struct reply *reply = NULL;
	struct keys keys;
	char key[KEY_MAX];
	size_t len;
	int rc;

	keys_init(&keys, l->client->prefix, queue);
	key_result(&keys, id, key);
	if (link_connect(l, e))
		return -1;
	if (wait_ms == 0) {
		rc = redis_set_timeout(l->redis, WAIT_MARGIN_MS, e) ||
		     redis_call(l->redis, &reply, e, "LINDEX %s 0", key);
	} else {
		char seconds[32];

		snprintf(seconds, sizeof seconds, "%lld.%03lld", (long long)(wait_ms / 1000),
			 (long long)(wait_ms % 1000));
		rc = redis_set_timeout(l->redis, wait_ms + WAIT_MARGIN_MS, e) ||
		     redis_call(l->redis, &reply, e, "BLMOVE %s %s LEFT LEFT %s", key, key, seconds);
	}
	if (rc)
		return link_failed(l, e);
	(void)redis_set_timeout(l->redis, REDIS_REPLY_MS, NULL);
	*json = reply_steal(reply, &len);
	reply_free(reply);
	return 0;
}

static int timed_out(int64_t timeout_ms, struct error *e)
{
	return error_set(e, ERR_TIMEOUT, "no result within %lld.%03lld s", (long long)(timeout_ms / 1000),
			 (long long)(timeout_ms % 1000));
}

/* Of several queues in a cluster one may be away alone: the others go on being asked, and why is told at the end if they have no result. */
static int wait_for(struct link *l, const char *const *queues, size_t nqueues, const char *id, int64_t timeout_ms,
		    char **json, struct error *e)
{
	int64_t deadline = clock_mono_ms() + timeout_ms;
	int64_t piece = nqueues == 1 ? WAIT_PIECE_MS : WAIT_SLICE_MS;
	size_t looks = nqueues == 1 ? 0 : nqueues; /* so many queues are only looked into before one is waited on */
	bool apart = nqueues > 1 && redis_spreads(&l->client->address);
	struct error away = {0};
	size_t away_at = 0;
	unsigned tries = 0;

	for (size_t i = 0;;) {
		int64_t left = deadline - clock_mono_ms();
		int rc = ask(l, queues[i], id, left < 0 || looks > 0 ? 0 : left < piece ? left : piece, json, e);

		if (rc && (!link_broke(e) || !l->client->was_connected || (left <= 0 && !apart)))
			return -1;
		if (rc)
			link_pause(tries++, left);
		if (rc && !apart) {
			looks = nqueues; /* it may have come meanwhile */
			continue;
		}
		if (*json)
			return 0;
		if (rc || i == away_at)
			away = rc ? *e : (struct error){0};
		away_at = rc ? i : away_at;
		if (looks > 0)
			looks--;
		else if (!rc)
			tries = 0;
		if (left <= 0 && looks == 0)
			break;
		i = (i + 1) % nqueues;
	}
	if (away.code == ERR_NONE)
		return timed_out(timeout_ms, e);
	*e = away;
	return -1;
}

int client_wait(adwuma *client, const char *const *queues, size_t nqueues, const char *id, int64_t timeout_ms,
		char **json, struct adwuma_error *err)
{
	struct sigpipe sigpipe;
	struct error e = {0};
	char *found = NULL;
	struct link *l;
	int rc;

	if (!client)
		return lib_no_client(err);
	for (size_t i = 0; i < nqueues; i++)
		if (lib_check_names(queues[i], id, &e))
			return lib_tell(err, &e);
	sigpipe_block(&sigpipe);
	l = link_take(client, &e);
	rc = l ? wait_for(l, queues, nqueues, id, lib_timeout(timeout_ms), &found, &e) : -1;
	if (l)
		link_give(l);
	sigpipe_restore(&sigpipe);
	if (rc)
		return lib_tell(err, &e);
	*json = found;
	return 0;
}

int adwuma_wait(adwuma *client, const char *queue, const char *id, int64_t timeout_ms, char **json,
		struct adwuma_error *err)
{
	return client_wait(client, &queue, 1, id, timeout_ms, json, err);
}
