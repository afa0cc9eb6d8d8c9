/* SPDX-License-Identifier: MIT
 *
 * The pieces of a streaming job, entry by entry, over a connection of its own. A stream may expire, be trimmed, or not be there at all where a job never
 * streams: so its result is looked at too. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "lib/inside.h"
#include "lib/sigpipe.h"

#define STEP_MS 1000	    /* how soon a result without a stream is seen */
#define STEP_MARGIN_MS 5000 /* the read timeout beyond it */
#define ENTRIES 100	    /* at once */
#define ENTRY_ID_MAX 64

struct adwuma_stream {
	struct link link;
	struct keys keys;
	char stream[KEY_MAX], result[KEY_MAX];
	char last[ENTRY_ID_MAX + 1]; /* the entry that was seen last */
	struct reply *reply;	     /* what was read */
	size_t at;		     /* of its entries, the next */
	bool ended;
};

/* "0", "17-3": what Redis takes; anything else would become part of a command that fails for ever. */
static bool is_entry_id(const char *s)
{
	size_t n = strspn(s, "0123456789");

	if (n > 0 && s[n] == '-')
		n += 1 + strspn(s + n + 1, "0123456789");
	return n > 0 && n <= ENTRY_ID_MAX && s[n] == '\0' && s[n - 1] != '-';
}

adwuma_stream *adwuma_stream_open(adwuma *client, const char *queue, const char *id, const char *after,
				  struct adwuma_error *err)
{
	struct adwuma_stream *s;
	struct error e = {0};

	if (!client) {
		lib_no_client(err);
		return NULL;
	}
	if (!after)
		after = "0";
	if (lib_check_names(queue, id, &e) ||
	    (!is_entry_id(after) &&
	     error_set(&e, ERR_INVALID, "'%.80s' is no entry of a stream, like 1700000000000-0", after))) {
		lib_tell(err, &e);
		return NULL;
	}
	s = calloc(1, sizeof *s);
	if (!s) {
		error_set(&e, ERR_MEMORY, "out of memory");
		lib_tell(err, &e);
		return NULL;
	}
	link_init(&s->link, client);
	keys_init(&s->keys, client->prefix, queue);
	key_stream(&s->keys, id, s->stream);
	key_result(&s->keys, id, s->result);
	strcpy(s->last, after);
	return s;
}

void adwuma_stream_close(adwuma_stream *stream)
{
	struct sigpipe sigpipe;

	if (!stream)
		return;
	sigpipe_block(&sigpipe);
	link_release(&stream->link);
	sigpipe_restore(&sigpipe);
	reply_free(stream->reply);
	free(stream);
}

static const char *field(const struct reply *entry, const char *name, size_t *len)
{
	const struct reply *fields = reply_at(entry, 1);

	for (size_t i = 0; i + 1 < reply_count(fields); i += 2) {
		const char *found = reply_bytes(reply_at(fields, i), NULL);

		if (found && strcmp(found, name) == 0)
			return reply_bytes(reply_at(fields, i + 1), len);
	}
	return NULL;
}

static const struct reply *entries_of(const struct reply *reply)
{
	return reply_at(reply_at(reply, 0), 1);
}

/* The next entry that has our form; false when none is left. */
static bool next_entry(struct adwuma_stream *s, struct adwuma_piece *piece)
{
	const struct reply *entries = entries_of(s->reply);

	while (s->at < reply_count(entries)) {
		const struct reply *entry = reply_at(entries, s->at++);
		size_t n = 0;
		const char *id = reply_bytes(reply_at(entry, 0), &n);

		*piece = (struct adwuma_piece){.event = field(entry, "event", &n)};
		piece->data = field(entry, "data", &piece->len);
		if (!id || !is_entry_id(id) || !piece->event || !piece->data)
			continue;
		strcpy(s->last, id);
		piece->entry_id = s->last;
		s->ended = strcmp(piece->event, "done") == 0 || strcmp(piece->event, "error") == 0;
		return true;
	}
	reply_free(s->reply);
	s->reply = NULL;
	s->at = 0;
	return false;
}

static int read_entries(struct adwuma_stream *s, int64_t ms, struct error *e)
{
	struct redis *r = s->link.redis;

	if (ms > 0)
		return redis_call(r, &s->reply, e, "XREAD COUNT %d BLOCK %lld STREAMS %s %s", ENTRIES, (long long)ms,
				  s->stream, s->last);
	return redis_call(r, &s->reply, e, "XREAD COUNT %d STREAMS %s %s", ENTRIES, s->stream, s->last);
}

/* Waits for entries, up to a step; where none came, for a result. What came between the two looks is read then. */
static int step(struct adwuma_stream *s, int64_t ms, struct error *e)
{
	struct reply *there = NULL;
	bool has_result;

	if (link_connect(&s->link, e))
		return -1;
	if (redis_set_timeout(s->link.redis, STEP_MS + STEP_MARGIN_MS, e) ||
	    read_entries(s, ms < STEP_MS ? ms : STEP_MS, e))
		return link_failed(&s->link, e);
	if (reply_count(entries_of(s->reply)) > 0)
		return 0;
	if (redis_call(s->link.redis, &there, e, "EXISTS %s", s->result))
		return link_failed(&s->link, e);
	has_result = reply_int(there, 0) > 0;
	reply_free(there);
	if (!has_result)
		return 0;
	reply_free(s->reply);
	s->reply = NULL;
	if (read_entries(s, 0, e))
		return link_failed(&s->link, e);
	s->ended = reply_count(entries_of(s->reply)) == 0;
	return 0;
}

static int next(struct adwuma_stream *s, int64_t timeout_ms, struct adwuma_piece *piece, struct error *e)
{
	int64_t deadline = clock_mono_ms() + timeout_ms;
	unsigned tries = 0;

	for (;;) {
		int64_t left;

		if (next_entry(s, piece))
			return 1;
		if (s->ended)
			return 0;
		left = deadline - clock_mono_ms();
		if (step(s, left > 0 ? left : 0, e) == 0) {
			tries = 0;
			if (left <= 0 && reply_count(entries_of(s->reply)) == 0 && !s->ended)
				return error_set(e, ERR_TIMEOUT, "nothing came within %lld.%03lld s",
						 (long long)(timeout_ms / 1000), (long long)(timeout_ms % 1000));
			continue;
		}
		if (left <= 0 || !link_may_heal(s->link.client, e))
			return -1;
		link_pause(tries++, left);
	}
}

int adwuma_stream_next(adwuma_stream *stream, int64_t timeout_ms, struct adwuma_piece *piece, struct adwuma_error *err)
{
	struct sigpipe sigpipe;
	struct error e = {0};
	int rc;

	if (!stream) {
		error_set(&e, ERR_INVALID, "there is no stream: adwuma_stream_open has failed");
		return lib_tell(err, &e);
	}
	sigpipe_block(&sigpipe);
	rc = next(stream, lib_timeout(timeout_ms), piece, &e);
	sigpipe_restore(&sigpipe);
	return rc < 0 ? lib_tell(err, &e) : rc;
}
