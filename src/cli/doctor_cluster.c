/* SPDX-License-Identifier: MIT
 *
 * doctor: the cluster as a whole, as one of redis_url's nodes sees it, and how each node that has queues of ours sees it. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/doctor.h"

#define ANSWER_MS 3000
#define SLOTS 16384
#define LIST_MAX 2048
#define COVERAGE "cluster-require-full-coverage"

/* A line of CLUSTER NODES: id, host:port@bus[,name], flags, master's id, …, link, slots. */
struct node {
	const char *id, *flags, *master, *slots; /* ends of words are blanks; slots are the rest of the line */
	char where[WHERE_MAX], host[REDIS_HOST_MAX + 1];
	size_t nslots;
	bool is_replica, has_replica, fails;
};

struct cluster_view {
	struct doctor *d;
	struct redis *redis;
	const struct redis_point *at;
	char where[WHERE_MAX], cli[DOCTOR_TEXT_MAX];
	struct reply *info_reply, *nodes_reply;
	const char *info; /* NULL: no node answers */
	struct node *nodes;
	size_t nnodes, answers;
	long slots[QUEUES_MAX];		   /* of the queues */
	const struct redis_point *refuser; /* a node that our user may not ask for all of this; NULL: none */
};

static bool says(const char *info, const char *name, const char *word)
{
	const char *value = info ? redis_info_value(info, name) : NULL;

	return value && strncmp(value, word, strlen(word)) == 0;
}

/* --- Asking. ------------------------------------------------------------------------------------------------------ */

/* Takes the connection as the one whose view is told, where it is the first, or the first that says that the cluster is well. */
static void take_view(struct cluster_view *v, struct redis *r, const struct redis_point *at, struct reply *info_reply)
{
	const char *info = reply_bytes(info_reply, NULL);

	if (v->info && (says(v->info, "cluster_state", "ok") || !says(info, "cluster_state", "ok"))) {
		redis_close(r);
		reply_free(info_reply);
		return;
	}
	redis_close(v->redis);
	reply_free(v->info_reply);
	v->redis = r;
	v->at = at;
	v->info_reply = info_reply;
	v->info = info ? info : "";
	point_show(at, v->where, sizeof v->where);
	(void)cli_of(v->d, at, true, v->cli);
}

/* Those of redis_url; what is wrong with them is told after it is known whether any answers. */
static void ask_points(struct cluster_view *v, struct error *errors)
{
	const struct redis_address *a = &v->d->look.address;

	for (size_t i = 0; i < a->npoints; i++) {
		struct redis *r = redis_open_at(a, &a->points[i], &errors[i]);
		struct reply *info = NULL;
		char where[WHERE_MAX];

		if (r && redis_set_timeout(r, ANSWER_MS, &errors[i]) == 0 &&
		    redis_call(r, &info, &errors[i], "CLUSTER INFO") == 0) {
			v->answers++;
			take_view(v, r, &a->points[i], info);
			continue;
		}
		point_show(&a->points[i], where, sizeof where);
		if (r && lacks_right(&errors[i])) {
			v->answers++;
			v->refuser = &a->points[i];
			errors[i] = (struct error){0}; /* it is told of all at once */
		} else if (r && (strstr(errors[i].msg, "cluster support disabled") ||
				 strstr(errors[i].msg, "unknown command"))) {
			found_other_kind(v->d, r, &a->points[i], where);
			errors[i] = (struct error){0}; /* it was told */
		}
		redis_close(r);
	}
}

static void tell_points(const struct cluster_view *v, const struct error *errors)
{
	const struct redis_address *a = &v->d->look.address;
	char where[WHERE_MAX], cli[DOCTOR_TEXT_MAX];

	for (size_t i = 0; i < a->npoints; i++) {
		if (errors[i].code == ERR_NONE)
			continue;
		point_show(&a->points[i], where, sizeof where);
		found(v->d, v->answers > 0 ? FOUND_WARN : FOUND_BAD, "node %s of redis_url: %s", where, errors[i].msg);
		if (!mend_known(v->d, cli_of(v->d, &a->points[i], true, cli), errors[i].msg))
			mend(v->d, "systemctl start redis-server    # on %s; or redis_url must not name it",
			     a->points[i].host);
	}
}

/* --- The nodes. --------------------------------------------------------------------------------------------------- */

static const char *next_word(const char *s)
{
	s += strcspn(s, " \n");
	return *s == ' ' ? s + 1 : s;
}

static bool has_flag(const struct node *n, const char *flag)
{
	size_t len = strlen(flag), word;

	for (const char *at = n->flags;; at += word + 1) {
		word = strcspn(at, ", \n");
		if (word == len && strncmp(at, flag, len) == 0)
			return true;
		if (at[word] != ',')
			return false;
	}
}

/* "0-5460 7 [93->-id]": calls visit for each range that is the node's; stops when it says true. */
static bool each_range(const char *slots, bool (*visit)(void *ctx, long from, long to), void *ctx)
{
	for (; *slots && *slots != '\n'; slots = next_word(slots)) {
		char *end;
		long from = strtol(slots, &end, 10), to = *end == '-' ? strtol(end + 1, NULL, 10) : from;

		if (*slots != '[' && end != slots && 0 <= from && from <= to && to < SLOTS && visit(ctx, from, to))
			return true;
	}
	return false;
}

static bool count_slots(void *ctx, long from, long to)
{
	*(size_t *)ctx += (size_t)(to - from + 1);
	return false;
}

static bool holds_slot(void *ctx, long from, long to)
{
	return from <= *(long *)ctx && *(long *)ctx <= to;
}

static void read_node(const struct cluster_view *v, const char *line, struct node *n)
{
	const char *place = next_word(line), *word;
	size_t len = strcspn(place, "@, \n");
	const char *colon = memrchr(place, ':', len);
	size_t host = colon ? (size_t)(colon - place) : 0;
	long port;
	struct redis_point at = *v->at;

	n->id = line;
	n->flags = next_word(place);
	n->master = word = next_word(n->flags);
	for (int i = 0; i < 5; i++) /* pings, pongs, epoch, link */
		word = next_word(word);
	n->slots = word;
	if (host > 0 && host <= REDIS_HOST_MAX) /* else it does not know its own */
		snprintf(at.host, sizeof at.host, "%.*s", (int)host, place);
	port = colon ? strtol(colon + 1, NULL, 10) : 0;
	at.port = 0 < port && port <= UINT16_MAX ? (int)port : 0;
	point_show(&at, n->where, sizeof n->where);
	snprintf(n->host, sizeof n->host, "%s", at.host);
	n->is_replica = *n->master != '-';
	n->fails = has_flag(n, "fail") || has_flag(n, "fail?");
	(void)each_range(n->slots, count_slots, &n->nslots);
}

static int read_nodes(struct cluster_view *v, struct error *err)
{
	const char *text, *line;
	size_t n = 0;

	if (redis_call(v->redis, &v->nodes_reply, err, "CLUSTER NODES"))
		return -1;
	text = reply_bytes(v->nodes_reply, NULL);
	for (line = text ? text : ""; *line; line += line[strcspn(line, "\n")] ? strcspn(line, "\n") + 1 : strlen(line))
		n++;
	v->nodes = calloc(n + 1, sizeof *v->nodes);
	if (!v->nodes)
		return error_set(err, ERR_MEMORY, "out of memory");
	for (line = text ? text : ""; v->nnodes < n; line += strcspn(line, "\n") + 1)
		read_node(v, line, &v->nodes[v->nnodes++]);
	for (size_t i = 0; i < n; i++)
		for (size_t k = 0; k < n; k++)
			v->nodes[i].has_replica =
				v->nodes[i].has_replica || (!v->nodes[k].fails && v->nodes[k].is_replica &&
							    strncmp(v->nodes[k].master, v->nodes[i].id, 40) == 0);
	return 0;
}

static int ask_slots(struct cluster_view *v, struct error *err)
{
	for (size_t i = 0; i < v->d->look.nqueues; i++) {
		struct reply *slot = NULL;
		struct keys keys;

		keys_init(&keys, v->d->settings->key_prefix, v->d->look.queues[i]);
		if (redis_call(v->redis, &slot, err, "CLUSTER KEYSLOT %s", keys.ready))
			return -1;
		v->slots[i] = (long)reply_int(slot, 0);
		reply_free(slot);
	}
	return 0;
}

/* The queues whose slot this node has; NULL: those that no node has. */
static void queues_of(const struct cluster_view *v, const struct node *node, struct buf *out)
{
	for (size_t i = 0; i < v->d->look.nqueues; i++) {
		long slot = v->slots[i];
		bool is = node && each_range(node->slots, holds_slot, &slot), has = false;

		for (size_t k = 0; !node && k < v->nnodes; k++)
			has = has || each_range(v->nodes[k].slots, holds_slot, &slot);
		if (node ? is : !has)
			buf_printf(out, "%s%s", out->len ? "," : "", v->d->look.queues[i]);
	}
}

/* --- Telling. ----------------------------------------------------------------------------------------------------- */

static void tell_failing(const struct cluster_view *v, const struct node *n)
{
	struct buf queues = BUF_INIT(LIST_MAX);

	queues_of(v, n, &queues);
	if (n->nslots == 0)
		found(v->d, FOUND_WARN,
		      "node %s does not answer the others (it has no slots: a replica, or one that was replaced)",
		      n->where);
	else
		found(v->d, queues.len > 0 ? FOUND_BAD : FOUND_WARN,
		      "master %s does not answer the others, and %s; %zu slots", n->where,
		      queues.len > 0 ? "what it has stands still until a replica takes over or it is back"
				     : "has none of our queues",
		      n->nslots);
	mend(v->d, "systemctl start redis-server    # at %s", n->where);
	buf_release(&queues);
}

static void tell_uncovered(const struct cluster_view *v, size_t covered)
{
	struct buf queues = BUF_INIT(LIST_MAX);
	char cli[DOCTOR_TEXT_MAX];

	queues_of(v, NULL, &queues);
	found(v->d, queues.len > 0 || !says(v->info, "cluster_state", "ok") ? FOUND_BAD : FOUND_WARN,
	      "%zu of %d slots are nobody's%s%s", SLOTS - covered, SLOTS,
	      queues.len > 0 ? ", and with them the queues " : "; none of our queues is in them", buf_cstr(&queues));
	mend(v->d, "%s fix %s    # gives them to masters, empty where their data is gone", cluster_cli(v->d, cli),
	     v->where);
	v->d->unreachable = v->d->unreachable || queues.len > 0;
	buf_release(&queues);
}

/* Those that have queues of ours are looked at one by one. */
static void add_bare(const struct cluster_view *v, const struct node *n)
{
	struct buf queues = BUF_INIT(LIST_MAX), *bare = &v->d->bare;

	queues_of(v, n, &queues);
	if (queues.len == 0)
		buf_printf(bare, "%s%s", bare->len ? ", " : "", n->where);
	buf_release(&queues);
}

static void tell_state(const struct cluster_view *v)
{
	size_t covered = 0, masters = 0, replicas = 0, failing = 0, lost = 0;

	for (size_t i = 0; i < v->nnodes; i++) {
		const struct node *n = &v->nodes[i];

		covered += n->nslots;
		masters += n->nslots > 0;
		replicas += n->is_replica;
		failing += n->fails;
		lost += n->fails && n->nslots > 0;
		if (n->nslots > 0 && !n->has_replica && !n->fails)
			add_bare(v, n);
	}
	if (!says(v->info, "cluster_state", "ok")) {
		found(v->d, FOUND_BAD,
		      "it is down, as %s sees it: %zu of %d slots have a master, %zu of %zu nodes fail", v->where,
		      covered, SLOTS, failing, v->nnodes);
		mend(v->d, "%s CLUSTER NODES    # who of them fails, and which slots are nobody's", v->cli);
	} else if (covered == SLOTS && lost == 0) {
		found(v->d, FOUND_OK, "ok, as %s sees it: %d slots at %zu masters, with %zu replicas", v->where, SLOTS,
		      masters, replicas);
	}
	for (size_t i = 0; i < v->nnodes; i++)
		if (v->nodes[i].fails)
			tell_failing(v, &v->nodes[i]);
	if (covered < SLOTS)
		tell_uncovered(v, covered);
}

static void tell_few_points(const struct cluster_view *v)
{
	struct buf points = BUF_INIT(LIST_MAX);
	size_t masters = 0;

	for (size_t i = 0; i < v->nnodes; i++) {
		if (v->nodes[i].nslots == 0)
			continue;
		buf_printf(&points, "%s%s", points.len ? "," : "", v->nodes[i].where);
		masters++;
	}
	if (v->d->look.address.npoints == 1 && masters > 1) {
		found(v->d, FOUND_WARN,
		      "redis_url names one node: while that is away, whoever starts does not find the others");
		mend_url(v->d, "+cluster", NULL, "%s", buf_cstr(&points));
	}
	buf_release(&points);
}

static void tell_refused(const struct cluster_view *v)
{
	const struct doctor *d = v->d;
	const char *user = d->look.address.username ? d->look.address.username : "default";
	char where[WHERE_MAX], cli[DOCTOR_TEXT_MAX], word[DOCTOR_TEXT_MAX];

	if (!v->refuser)
		return;
	point_show(v->refuser, where, sizeof where);
	found(v->d, FOUND_WARN,
	      "which nodes fail, and which slots nobody has, cannot be told in full: user %s may not ask %s for all of cluster|info, cluster|keyslot and cluster|nodes",
	      user, where);
	mend(v->d,
	     "%s ACL SETUSER %s '+cluster|info' '+cluster|keyslot' '+cluster|nodes'    # as a user who may, at each node; ACL SAVE keeps it",
	     cli_of(d, v->refuser, true, cli), shell_word(user, word));
}

void doctor_cluster(struct doctor *d)
{
	struct error *errors = calloc(d->look.address.npoints, sizeof *errors), err = {0};
	struct cluster_view v = {.d = d};
	size_t bad = d->counts[FOUND_BAD];

	if (!errors)
		return;
	ask_points(&v, errors);
	tell_points(&v, errors);
	free(errors);
	if (v.info && read_nodes(&v, &err) == 0 && ask_slots(&v, &err) == 0) {
		tell_state(&v);
		tell_few_points(&v);
	} else if (v.info && lacks_right(&err)) {
		v.refuser = v.at;
	} else if (v.info) {
		found(d, FOUND_BAD, "node %s: %s", v.where, err.msg);
		mend(d, "%s CLUSTER NODES    # what it says of them", v.cli);
	}
	tell_refused(&v);
	/* As workers and producers find it. */
	err = (struct error){0};
	if (doctor_find(d, &err)) {
		d->unreachable = true;
		if (bad == d->counts[FOUND_BAD]) {
			found(d, FOUND_BAD, "%s; what is in it was not looked at", err.msg);
			mend_later(d, "a moment ago it answered");
		}
	}
	redis_close(v.redis);
	reply_free(v.info_reply);
	reply_free(v.nodes_reply);
	free(v.nodes);
}

/* --- Nodes without replicas. -------------------------------------------------------------------------------------- */

/* Whether slots that nobody serves stop all others, too. */
enum coverage { NOT_TOLD, NOT_FULL, FULL };
static const struct {
	const char *well, *down;
} by_coverage[] = {
	[NOT_TOLD] = {"", "there are slots that nobody serves, or most masters are away, or out of its reach"},
	[NOT_FULL] = {"; slots that nobody serves would not stop these queues",
		      "it does not reach most of the masters"},
	[FULL] = {"; " COVERAGE " yes: slots that nobody serves would stop these queues, too",
		  "there are slots that nobody serves, or most masters are away, and " COVERAGE " is yes"},
};

static enum coverage coverage_of(const struct server *s)
{
	struct reply *reply = NULL;
	const char *value;
	enum coverage is;

	if (!s->redis || redis_call(s->redis, &reply, NULL, "CONFIG GET " COVERAGE))
		return NOT_TOLD;
	value = reply_bytes(reply_at(reply, 1), NULL);
	is = !value ? NOT_TOLD : strcmp(value, "yes") == 0 ? FULL : NOT_FULL;
	reply_free(reply);
	return is;
}

void doctor_unfollowed(struct doctor *d)
{
	struct buf nodes = BUF_INIT(LIST_MAX);
	char cli[DOCTOR_TEXT_MAX];
	const char *answers = NULL; /* a node that does */
	bool full = false;

	for (size_t i = 0; i < d->nservers; i++) {
		const struct server *s = &d->servers[i];

		full = full || coverage_of(s) == FULL;
		if (s->redis && !answers)
			answers = s->where;
		if (s->unfollowed)
			buf_printf(&nodes, "%s%s (%s)", nodes.len ? ", " : "", s->where, buf_cstr(&s->queues));
	}
	if (answers && nodes.len > 0) {
		found(d, FOUND_WARN, "none at %s: when such a node is lost, its queues stand still%s", buf_cstr(&nodes),
		      full ? ", and all others with them: " COVERAGE " is yes" : "");
		mend(d,
		     "%s add-node HOST:PORT %s --cluster-slave    # for each of them; HOST:PORT is a new, empty Redis with cluster-enabled yes",
		     cluster_cli(d, cli), answers);
	} else if (full && d->bare.len > 0) {
		found(d, FOUND_WARN,
		      "none at %s, which %s no queues of ours: when such a node is lost, all queues stand still, since " COVERAGE
		      " is yes",
		      buf_cstr(&d->bare), strchr(buf_cstr(&d->bare), ',') ? "have" : "has");
		mend(d,
		     "%s call %s CONFIG SET " COVERAGE " no    # and for good, in the redis.conf of each: " COVERAGE
		     " no",
		     cluster_cli(d, cli), answers);
	}
	buf_release(&nodes);
}

/* --- As one node sees it. ----------------------------------------------------------------------------------------- */

/* Of its own line only: "[93->-id]" leaves, "[93-<-id]" comes. */
static void tell_open_slots(struct doctor *d)
{
	struct reply *reply = NULL;
	const char *text, *line, *slot;
	char cli[DOCTOR_TEXT_MAX];

	(void)redis_call(d->at->redis, &reply, NULL, "CLUSTER NODES");
	text = reply_bytes(reply, NULL);
	line = text ? strstr(text, "myself") : NULL;
	slot = line ? memchr(line, '[', strcspn(line, "\n")) : NULL;
	if (slot) {
		found(d, FOUND_WARN, "slot %.*s is on its way to another node: keys of it are in two places",
		      (int)strspn(slot + 1, "0123456789"), slot + 1);
		mend(d, "%s fix %s    # where nobody is resharding just now", cluster_cli(d, cli), d->at->where);
	}
	reply_free(reply);
}

void doctor_slots(struct doctor *d)
{
	struct reply *info = NULL;
	struct error err = {0};
	enum coverage coverage;

	if (redis_call(d->at->redis, &info, &err, "CLUSTER INFO")) {
		if (!lacks_right(&err)) /* as was told */
			found_failed(d, "CLUSTER INFO", &err);
		return;
	}
	coverage = coverage_of(d->at);
	if (!says(reply_bytes(info, NULL), "cluster_state", "ok")) {
		found(d, FOUND_BAD, "it holds the cluster for down, and takes no jobs: %s", by_coverage[coverage].down);
		if (coverage == FULL)
			mend_config(d, COVERAGE, "no");
		else
			mend(d, "%s CLUSTER NODES    # whom it does not reach", d->at->cli);
	} else {
		found(d, FOUND_OK, "cluster_state ok%s", by_coverage[coverage].well);
	}
	tell_open_slots(d);
	reply_free(info);
}
