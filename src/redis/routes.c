/* SPDX-License-Identifier: MIT
 *
 * One connection for each node of a cluster, behind one struct redis: a command goes to the node that has its key, and replies come in the order of the
 * commands. A node that cannot be reached stands for its own keys only: its commands are answered here, with an error reply that passes as does the
 * cluster's own when nobody serves a slot, so that callers know one kind of "not now" and go on with what others serve. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/clock.h"
#include "redis/connection.h"

#define NODES_MAX 128	 /* connected to at a time */
#define KEY_WORDS 8	 /* of a command: the key is one of the first */
#define FOLLOW_MAX 5	 /* MOVED and ASK, one after the other */
#define ASKED_MAX 16	 /* keys of which it is known that they have moved before their slot */
#define TRY_AGAIN_MS 250 /* what could not be reached is not tried earlier: many commands may be for it */

struct node {
	struct redis *r; /* NULL: not connected */
	struct redis_point at;
	size_t nawaited;  /* replies */
	bool broken;	  /* its replies that are awaited are made here; then it is closed */
	int64_t retry_ms; /* mono */
	char why[240];	  /* it could not be reached: the text of replies that are made here */
};

/* Whose reply is next. */
struct awaited {
	struct node *node;
	struct reply *made; /* here; NULL: it comes from the node */
	uint64_t key;	    /* its hash; 0: none */
	bool asking;	    /* to ASKING, which nobody waits for */
};

/* A key that its slot's node has no more, while the slot moves. Never the others of the slot: where they are still, nothing may be made elsewhere. */
struct asked {
	uint64_t key; /* its hash; 0: none */
	struct redis_point at;
};

struct routes {
	const struct redis_address *address; /* borrowed */
	struct redis *owner;
	bool with_scripts;
	bool stale;	     /* the map is to be asked for before the next command */
	int64_t ask_from_ms; /* mono; not earlier */
	int64_t timeout_ms;
	struct node *nodes[NODES_MAX];
	size_t nnodes;
	struct node *any; /* for commands without a key */
	struct awaited *awaited;
	size_t first, nawaited, capacity; /* a ring */
	struct asked asked[ASKED_MAX];	  /* a ring, too: the next is put at asked_at */
	size_t asked_at;
};

/* --- Nodes. ------------------------------------------------------------------------------------------------------------------ */

static void disconnect(struct node *n)
{
	redis_close(n->r);
	n->r = NULL;
	n->broken = false;
}

static struct node *node_at(struct routes *t, const struct redis_point *at, struct error *err)
{
	struct node *n;

	for (size_t i = 0; i < t->nnodes; i++)
		if (t->nodes[i]->at.port == at->port && strcmp(t->nodes[i]->at.host, at->host) == 0)
			return t->nodes[i];
	for (size_t i = 0; t->nnodes == NODES_MAX && i < t->nnodes; i++) /* one that was left makes room */
		if (t->nodes[i]->nawaited == 0 && t->nodes[i] != t->any) {
			disconnect(t->nodes[i]);
			free(t->nodes[i]);
			t->nodes[i] = t->nodes[--t->nnodes];
		}
	n = t->nnodes < NODES_MAX ? calloc(1, sizeof *n) : NULL;
	if (!n) {
		error_set(err, ERR_MEMORY, NODE_NONE "of the cluster can be added: no memory");
		return NULL;
	}
	n->at = *at;
	t->nodes[t->nnodes++] = n;
	return n;
}

/* A node that refuses us says why itself. */
static void note_why(struct node *n, const struct error *err)
{
	bool away = err->code == ERR_LINK;
	char where[REDIS_HOST_MAX + 16];

	point_show(&n->at, where, sizeof where);
	snprintf(n->why, sizeof n->why, NODE_AWAY "%.80s%s%.90s%s", where, away ? " cannot be reached (" : ": ",
		 err->msg, away ? "); a failover may be under way" : "");
}

/* 0; or -1, with the reason in why. */
static int connect_node(struct routes *t, struct node *n)
{
	struct error err = {0};

	if (n->r && !n->broken)
		return 0;
	if (n->broken && n->nawaited > 0)
		return -1;
	if (clock_mono_ms() < n->retry_ms)
		return -1;
	disconnect(n);
	n->r = open_point(t->address, &n->at, t->with_scripts ? OPEN_SCRIPTS : OPEN_MASTER, SEEK_MS, &err);
	if (n->r && redis_set_timeout(n->r, t->timeout_ms, &err) == 0) {
		memcpy(t->owner->sha, n->r->sha, sizeof t->owner->sha);
		return 0;
	}
	note_why(n, &err);
	n->retry_ms = clock_mono_ms() + TRY_AGAIN_MS;
	t->stale = true;
	disconnect(n);
	return -1;
}

static void broke(struct routes *t, struct node *n, const struct error *why)
{
	if (!n->broken)
		note_why(n, why);
	n->broken = true;
	t->stale = true;
}

/* --- The key of a command. ---------------------------------------------------------------------------------------------------- */

/* The next argument of a command as text: "$3\r\nGET\r\n". */
static const char *next_word(const char **at, const char *end, size_t *n)
{
	const char *word = *at < end && **at == '$' ? memchr(*at, '\n', (size_t)(end - *at)) : NULL;

	if (!word)
		return NULL;
	*n = strtoul(*at + 1, NULL, 10);
	if (++word + *n + 2 > end)
		return NULL;
	*at = word + *n + 2;
	return word;
}

static uint64_t hash_of(const char *s, size_t n)
{
	uint64_t hash = 14695981039346656037U; /* FNV-1a */

	for (size_t i = 0; i < n; i++)
		hash = (hash ^ (unsigned char)s[i]) * 1099511628211U;
	return hash | 1;
}

/* The first with a hash tag. What else may hold one, a job or a name, stands behind the key. */
static bool find_key(const char *text, size_t n, unsigned *slot, uint64_t *hash)
{
	const char *end = text + n, *at = memchr(text, '\n', n), *word;
	size_t len;

	at = at ? at + 1 : end;
	for (int i = 0; i < KEY_WORDS && (word = next_word(&at, end, &len)); i++) {
		if (!memchr(word, '{', len))
			continue;
		*slot = cluster_slot(word, len);
		*hash = hash_of(word, len);
		return true;
	}
	return false;
}

/* --- Who is asked. ------------------------------------------------------------------------------------------------------------ */

/* Any that can be reached; NULL with why. */
static struct node *any_node(struct routes *t, struct error *err)
{
	int64_t until_ms = clock_mono_ms() + REDIS_REPLY_MS;
	struct redis_point at;

	if (t->any && connect_node(t, t->any) == 0)
		return t->any;
	error_set(err, ERR_LINK, NODE_NONE "of the cluster has slots");
	for (size_t i = 0; cluster_master(t->address->cluster, i, &at) && clock_mono_ms() < until_ms; i++) {
		struct node *n = node_at(t, &at, err);

		if (!n)
			return NULL;
		if (connect_node(t, n) == 0)
			return t->any = n;
		error_set(err, ERR_LINK, "%s", n->why);
	}
	return NULL;
}

static void ask_again(struct routes *t)
{
	struct error err = {0};

	if (clock_mono_ms() < t->ask_from_ms)
		return;
	if (cluster_ask(t->address, &err) == 0)
		t->stale = false;
	t->ask_from_ms = clock_mono_ms() + TRY_AGAIN_MS;
}

/* The node of a slot, connected; NULL with why. */
static struct node *node_of(struct routes *t, unsigned slot, struct error *err)
{
	struct redis_point at;
	struct node *n;

	if (t->stale || !cluster_node(t->address->cluster, slot, &at))
		ask_again(t);
	if (!cluster_node(t->address->cluster, slot, &at)) {
		error_set(err, ERR_LINK, NODE_NONE "has slot %u", slot);
		return NULL;
	}
	n = node_at(t, &at, err);
	if (n && connect_node(t, n) == 0)
		return n;
	if (n)
		error_set(err, ERR_LINK, "%s", n->why);
	return NULL;
}

/* --- Commands and replies. ---------------------------------------------------------------------------------------------------- */

/* An error that passes (reply_is_elsewhere); NULL: no memory. */
static struct reply *make_reply(const char *why)
{
	redisReader *reader = redisReaderCreate();
	void *reply = NULL;
	char text[256];

	snprintf(text, sizeof text, "-%.240s", why);
	text[strcspn(text, "\r\n")] = '\0';
	strcat(text, "\r\n");
	if (reader && redisReaderFeed(reader, text, strlen(text)) == REDIS_OK)
		(void)redisReaderGetReply(reader, &reply);
	if (reader)
		redisReaderFree(reader);
	return reply;
}

static struct awaited *room(struct routes *t, struct error *err)
{
	struct awaited *more;

	if (t->nawaited == t->capacity) {
		more = malloc((2 * t->capacity + 16) * sizeof *more);
		if (!more) {
			error_set(err, ERR_MEMORY, "out of memory");
			return NULL;
		}
		for (size_t i = 0; i < t->nawaited; i++)
			more[i] = t->awaited[(t->first + i) % t->capacity];
		free(t->awaited);
		t->awaited = more;
		t->first = 0;
		t->capacity = 2 * t->capacity + 16;
	}
	return &t->awaited[(t->first + t->nawaited) % t->capacity];
}

/* n NULL: it could not be reached, and why says why. */
static int append_to(struct routes *t, struct node *n, const char *text, size_t len, struct error *why)
{
	struct error err = {0};
	struct awaited *next = room(t, why);

	if (!next)
		return -1;
	*next = (struct awaited){.node = n};
	if (n && append_text(n->r, text, len, &err)) {
		broke(t, n, &err);
		error_set(why, ERR_LINK, "%s", n->why);
		next->node = n = NULL;
	}
	if (!n && !(next->made = make_reply(why->msg)))
		return error_set(why, ERR_MEMORY, "out of memory");
	if (n)
		n->nawaited++;
	t->nawaited++;
	return 0;
}

static struct asked *find_asked(struct routes *t, uint64_t key)
{
	for (size_t i = 0; key && i < ASKED_MAX; i++)
		if (t->asked[i].key == key)
			return &t->asked[i];
	return NULL;
}

/* A reply that says where else its key is: the next command with it goes there. */
static void note_redirection(struct routes *t, const struct awaited *told)
{
	const char *error = reply_error(told->made);
	struct asked *known = find_asked(t, told->key);
	struct redis_point to;
	unsigned slot;

	if (!point_of_redirection(error, &told->node->at, &slot, &to))
		return;
	if (strncmp(error, "MOVED ", 6) == 0) {
		cluster_moved(t->address->cluster, slot, &to);
		if (known)
			known->key = 0;
	} else if (told->key) {
		if (!known)
			known = &t->asked[t->asked_at++ % ASKED_MAX];
		*known = (struct asked){.key = told->key, .at = to};
	}
}

static const char asking[] = "*1\r\n$6\r\nASKING\r\n";

/* Whoever has the key before its slot, connected and told that we know; NULL: nobody is known, or reached. */
static struct node *node_asked(struct routes *t, uint64_t key, struct error *err)
{
	struct asked *known = find_asked(t, key);
	struct error why = {0};
	struct node *n = known ? node_at(t, &known->at, &why) : NULL;

	if (n && connect_node(t, n) == 0 && append_to(t, n, asking, sizeof asking - 1, err) == 0) {
		t->awaited[(t->first + t->nawaited - 1) % t->capacity].asking = true;
		return n;
	}
	if (known)
		known->key = 0;
	return NULL;
}

int routes_append(struct routes *t, const char *text, size_t n, struct error *err)
{
	static const char multi[] = "*1\r\n$5\r\nMULTI\r\n";
	struct error why = {0};
	struct node *node = NULL;
	uint64_t key = 0;
	unsigned slot;
	int rc;

	if (n == sizeof multi - 1 && strncasecmp(text, multi, n) == 0)
		return error_set(err, ERR_REFUSED,
				 "MULTI is for one node: what follows it would be carried out at others");
	if (!find_key(text, n, &slot, &key))
		node = any_node(t, &why);
	else if (!(node = node_asked(t, key, &why)))
		node = node_of(t, slot, &why);
	rc = append_to(t, node, text, n, &why);
	if (rc == 0)
		t->awaited[(t->first + t->nawaited - 1) % t->capacity].key = key;
	else if (err)
		*err = why;
	return rc;
}

int routes_flush(struct routes *t, struct error *err)
{
	(void)err;
	for (size_t i = 0; i < t->nnodes; i++) {
		struct error why = {0};

		if (t->nodes[i]->nawaited > 0 && !t->nodes[i]->broken && redis_flush(t->nodes[i]->r, &why))
			broke(t, t->nodes[i], &why);
	}
	return 0;
}

int routes_receive(struct routes *t, struct reply **out, struct error *err)
{
	struct awaited next;
	struct error why = {0};

	do {
		if (t->nawaited == 0)
			return error_set(err, ERR_LINK, "no reply is awaited");
		next = t->awaited[t->first];
		t->first = (t->first + 1) % t->capacity;
		t->nawaited--;
		if (next.node) {
			next.node->nawaited--;
			if (!next.node->broken && redis_receive(next.node->r, &next.made, &why))
				broke(t, next.node, &why);
			if (!next.made)
				next.made = make_reply(next.node->why);
		}
		if (!next.made)
			return error_set(err, ERR_MEMORY, "out of memory");
		if (next.asking)
			reply_free(next.made);
	} while (next.asking);
	if (next.node && reply_error(next.made))
		note_redirection(t, &next);
	*out = next.made;
	return 0;
}

/* Whether the same command then goes to another node: what its reply says about where its key is has been noted. One without a key can go to any, so that
 * a node that has just died stands for its own keys only. */
static bool goes_elsewhere(const char *told, const char *text, size_t n, int tries)
{
	unsigned slot;
	uint64_t key;

	if (strncmp(told, NODE_AWAY, sizeof NODE_AWAY - 1) == 0)
		return tries == 0 && !find_key(text, n, &slot, &key);
	return tries < FOLLOW_MAX && (strncmp(told, "MOVED ", 6) == 0 || strncmp(told, "ASK ", 4) == 0);
}

int routes_run(struct routes *t, const char *text, size_t n, struct reply **out, struct error *err)
{
	for (int i = 0;; i++) {
		struct reply *reply = NULL;

		if (routes_append(t, text, n, err) || routes_receive(t, &reply, err))
			return -1;
		if (!reply_error(reply) || !goes_elsewhere(reply_error(reply), text, n, i)) {
			*out = reply;
			return 0;
		}
		reply_free(reply);
	}
}

int routes_set_timeout(struct routes *t, int64_t timeout_ms, struct error *err)
{
	(void)err;
	if (t->timeout_ms == timeout_ms)
		return 0;
	t->timeout_ms = timeout_ms;
	for (size_t i = 0; i < t->nnodes; i++) {
		struct error why = {0};

		if (t->nodes[i]->r && !t->nodes[i]->broken && redis_set_timeout(t->nodes[i]->r, timeout_ms, &why))
			broke(t, t->nodes[i], &why);
	}
	return 0;
}

/* --- Beginning and end. ------------------------------------------------------------------------------------------------------- */

int routes_open(struct redis *r, const struct redis_address *a, bool with_scripts, struct error *err)
{
	r->routes = calloc(1, sizeof *r->routes);
	if (!r->routes)
		return error_set(err, ERR_MEMORY, "out of memory");
	*r->routes =
		(struct routes){.address = a, .owner = r, .with_scripts = with_scripts, .timeout_ms = OTHERS_REPLY_MS};
	if (cluster_ask(a, err))
		return -1;
	return any_node(r->routes, err) ? 0 : -1;
}

void routes_free(struct routes *t)
{
	if (!t)
		return;
	for (; t->nawaited > 0; t->nawaited--) {
		reply_free(t->awaited[t->first].made);
		t->first = (t->first + 1) % t->capacity;
	}
	for (size_t i = 0; i < t->nnodes; i++) {
		disconnect(t->nodes[i]);
		free(t->nodes[i]);
	}
	free(t->awaited);
	free(t);
}

const struct redis_point *routes_peer(const struct routes *t)
{
	return t->any ? &t->any->at : NULL;
}
