/* SPDX-License-Identifier: MIT
 *
 * doctor: the sentinels. Each of redis_url is asked: workers and producers believe the first that answers, so all must say the same; and whether the
 * next failover would succeed is to be known before it is needed. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "cli/doctor.h"

#define ANSWER_MS 3000
#define SETTLED_MS 3000 /* a connection that is lost is opened again after 1 s: Redis's sentinel.c */
#define LOOK_AGAIN_MS 250
#define ENOUGH 3 /* with two, one that is lost leaves no majority */
#define LIST_MAX 2048

/* What they are asked beside whom they name. Each is a right of its own, which our user may lack. */
enum question { MASTER, SENTINELS, REPLICAS, CKQUORUM, MYID, QUESTIONS };
static const struct {
	const char *right, *form;
} questions[QUESTIONS] = {
	[MASTER] = {"sentinel|master", "SENTINEL MASTER %s"},
	[SENTINELS] = {"sentinel|sentinels", "SENTINEL SENTINELS %s"},
	[REPLICAS] = {"sentinel|replicas", "SENTINEL REPLICAS %s"},
	[CKQUORUM] = {"sentinel|ckquorum", "SENTINEL CKQUORUM %s"},
	[MYID] = {"sentinel|myid", "SENTINEL MYID"},
};

struct sentinel {
	const struct redis_point *at;
	char where[WHERE_MAX], cli[DOCTOR_TEXT_MAX];
	bool with_login; /* as the user of redis_url */
	struct redis *redis;
	struct error err;
	enum {
		AWAY,
		OTHER_KIND,
		NO_NAME, /* it watches no master of that name */
		NAMES_ONE,
	} says;
	struct redis_point master;
	char names[WHERE_MAX];	      /* the master */
	char id[WORD_MAX];	      /* its own */
	struct reply *state, *others; /* of the master, and of the other sentinels, as it sees them */
};

struct sentinels {
	struct doctor *d;
	const char *name; /* of the master */
	struct sentinel *all, *first;
	size_t n, away, naming, same;	/* same: how many name what first names, as most do */
	bool refused[QUESTIONS];	/* by any of them */
	const struct sentinel *refuser; /* the first that did */
};

/* --- Asking. ------------------------------------------------------------------------------------------------------ */

const char *sentinel_field(const struct reply *list, const char *name)
{
	for (size_t i = 0; i + 1 < reply_count(list); i += 2) {
		const char *is = reply_bytes(reply_at(list, i), NULL),
			   *value = reply_bytes(reply_at(list, i + 1), NULL);

		if (is && value && strcmp(is, name) == 0)
			return value;
	}
	return "";
}

static long number_of(const struct reply *list, const char *name)
{
	return strtol(sentinel_field(list, name), NULL, 10);
}

const char *sentinel_names(struct redis *r, struct buf *out)
{
	struct reply *masters = NULL;
	struct error err = {0};
	int rc = redis_call(r, &masters, &err, "SENTINEL MASTERS");

	for (size_t i = 0; i < reply_count(masters); i++)
		buf_printf(out, "%s%s", i > 0 ? "," : "", sentinel_field(reply_at(masters, i), "name"));
	reply_free(masters);
	if (rc && lacks_right(&err))
		return "what our user may not ask";
	return out->len ? buf_cstr(out) : "nothing";
}

static int ask(struct sentinels *all, const struct sentinel *s, enum question q, struct reply **reply,
	       struct error *err)
{
	int rc = redis_call(s->redis, reply, err, questions[q].form, all->name);

	if (rc && lacks_right(err)) {
		all->refused[q] = true;
		all->refuser = all->refuser ? all->refuser : s;
	}
	return rc;
}

static void ask_more(struct sentinels *all, struct sentinel *s)
{
	struct reply *id = NULL;
	struct error err;

	(void)ask(all, s, MASTER, &s->state, &err);
	(void)ask(all, s, SENTINELS, &s->others, &err);
	(void)ask(all, s, MYID, &id, &err);
	snprintf(s->id, sizeof s->id, "%s", reply_bytes(id, NULL) ? reply_bytes(id, NULL) : "");
	reply_free(id);
}

static void ask_one(struct sentinels *all, struct sentinel *s)
{
	const struct redis_address *a = &all->d->look.address;
	struct reply *named = NULL;
	const char *host, *port;

	point_show(s->at, s->where, sizeof s->where);
	s->redis = redis_open_sentinel(a, s->at, &s->with_login, &s->err);
	cli_of(all->d, s->at, s->with_login, s->cli);
	if (!s->redis || redis_set_timeout(s->redis, ANSWER_MS, &s->err))
		return;
	if (redis_call(s->redis, &named, &s->err, "SENTINEL GET-MASTER-ADDR-BY-NAME %s", all->name)) {
		s->says = strstr(s->err.msg, "unknown command") ? OTHER_KIND : AWAY;
		return;
	}
	host = reply_bytes(reply_at(named, 0), NULL);
	port = reply_bytes(reply_at(named, 1), NULL);
	s->says = NO_NAME;
	if (host && port) {
		s->says = NAMES_ONE;
		snprintf(s->master.host, sizeof s->master.host, "%s", host);
		s->master.port = (int)strtol(port, NULL, 10);
		point_show(&s->master, s->names, sizeof s->names);
		ask_more(all, s);
	}
	reply_free(named);
}

/* --- Each of them. ------------------------------------------------------------------------------------------------ */

static void tell_away(const struct sentinels *all, const struct sentinel *s)
{
	found(all->d, all->naming > 0 ? FOUND_WARN : FOUND_BAD, "sentinel %s: %s", s->where, s->err.msg);
	if (!mend_known(all->d, s->cli, s->err.msg))
		mend(all->d, "systemctl start redis-sentinel    # on %s; or redis_url must not name it", s->at->host);
}

/* Of the others; where they do not tell, that of most of them. */
static long quorum_of(const struct sentinels *all)
{
	return all->first->state ? number_of(all->first->state, "quorum") : (long)all->n / 2 + 1;
}

/* Others name one. */
static void tell_no_name(const struct sentinels *all, const struct sentinel *s)
{
	struct buf names = BUF_INIT(LIST_MAX);
	char word[DOCTOR_TEXT_MAX];

	found(all->d, FOUND_BAD, "sentinel %s watches no master '%s', but %s", s->where, all->name,
	      sentinel_names(s->redis, &names));
	mend(all->d, "%s SENTINEL MONITOR %s %s %d %ld    # as the others do; its auth-pass and times then, too",
	     s->cli, shell_word(all->name, word), all->first->master.host, all->first->master.port, quorum_of(all));
	buf_release(&names);
}

/* Nobody does: then it is redis_url that is wrong, unless they watch nothing at all. */
static void tell_no_names(const struct sentinels *all)
{
	struct buf names = BUF_INIT(LIST_MAX), points = BUF_INIT(LIST_MAX);
	const struct sentinel *one = NULL;
	const char *watched = NULL;
	char word[DOCTOR_TEXT_MAX];

	for (size_t i = 0; i < all->n; i++) {
		const struct sentinel *s = &all->all[i];

		if (s->says != NO_NAME)
			continue;
		one = s;
		buf_printf(&points, "%s%s", points.len ? "," : "", s->where);
		if (names.len == 0)
			watched = sentinel_names(s->redis, &names);
	}
	if (one) {
		found(all->d, FOUND_BAD, "there is no master '%s': sentinel %s watches %s", all->name,
		      buf_cstr(&points), watched);
		if (names.len > 0)
			mend_url(all->d, "+sentinel", "the name stands behind the sentinels", "%s/%.*s/%d",
				 buf_cstr(&points), (int)strcspn(buf_cstr(&names), ","), buf_cstr(&names),
				 all->d->look.address.db);
		else
			mend(all->d,
			     "%s SENTINEL MONITOR %s HOST PORT 2    # of the master, at each sentinel; or redis_url must give a name of SENTINEL MASTERS",
			     one->cli, shell_word(all->name, word));
	}
	buf_release(&names);
	buf_release(&points);
}

static void tell_each(const struct sentinels *all)
{
	for (size_t i = 0; i < all->n; i++) {
		const struct sentinel *s = &all->all[i];

		if (s->says == AWAY)
			tell_away(all, s);
		else if (s->says == OTHER_KIND)
			found_other_kind(all->d, s->redis, s->at, s->where);
		else if (s->says == NO_NAME && all->first)
			tell_no_name(all, s);
	}
	if (!all->first)
		tell_no_names(all);
}

/* --- Whom they name. ---------------------------------------------------------------------------------------------- */

static void count_names(struct sentinels *all)
{
	for (size_t i = 0; i < all->n; i++) {
		size_t same = 0;

		all->away += all->all[i].says == AWAY;
		if (all->all[i].says != NAMES_ONE)
			continue;
		all->naming++;
		for (size_t k = 0; k < all->n; k++)
			same += all->all[k].says == NAMES_ONE && strcmp(all->all[k].names, all->all[i].names) == 0;
		if (same > all->same) {
			all->same = same;
			all->first = &all->all[i];
		}
	}
}

static void tell_names(const struct sentinels *all)
{
	const struct sentinel *first = all->first;
	char word[DOCTOR_TEXT_MAX];

	if (all->same == all->naming)
		found(all->d, FOUND_OK, "%zu of %zu name %s as the master %s", all->same, all->n, first->names,
		      all->name);
	shell_word(all->name, word);
	for (size_t i = 0; i < all->n; i++) {
		const struct sentinel *s = &all->all[i];

		if (s->says != NAMES_ONE || strcmp(s->names, first->names) == 0)
			continue;
		found(all->d, FOUND_BAD,
		      "sentinel %s names %s as the master %s, %s names %s: who asks it, works elsewhere", s->where,
		      s->names, all->name, first->where, first->names);
		mend(all->d,
		     "%s SENTINEL REMOVE %s && %s SENTINEL MONITOR %s %s %d %ld    # where that is the right one and no failover goes on; its auth-pass and times then, too",
		     s->cli, word, s->cli, word, first->master.host, first->master.port, quorum_of(all));
	}
}

static bool has_flag(const struct reply *list, const char *flag)
{
	return strstr(sentinel_field(list, "flags"), flag) != NULL;
}

/* s_down, o_down: it does not answer the sentinel. */
static bool is_down(const struct reply *list)
{
	return has_flag(list, "_down") || has_flag(list, "disconnected");
}

/* Until its end the sentinel that leads it names the new master, and tells the flags of the old one. */
static bool is_failing_over(const struct sentinel *s)
{
	return has_flag(s->state, "failover_in_progress");
}

/* Who becomes the master cuts off all its clients, sentinels too: only a connection that stays away means something. */
static bool may_settle(const struct sentinel *s)
{
	return is_failing_over(s) || (has_flag(s->state, "disconnected") && !has_flag(s->state, "_down"));
}

static void let_settle(const struct sentinels *all, struct sentinel *s)
{
	int64_t until = clock_mono_ms() + SETTLED_MS;

	while (may_settle(s) && clock_mono_ms() < until) {
		clock_nap(LOOK_AGAIN_MS);
		reply_free(s->state);
		s->state = NULL;
		(void)redis_call(s->redis, &s->state, NULL, "SENTINEL MASTER %s", all->name);
	}
}

static void tell_master(const struct sentinels *all)
{
	struct sentinel *s = all->first;
	char word[DOCTOR_TEXT_MAX];

	let_settle(all, s);
	if (is_failing_over(s)) {
		found(all->d, FOUND_WARN, "sentinel %s is carrying out a failover of %s to %s", s->where, all->name,
		      s->names);
		mend_later(all->d, "it ends within seconds, or is given up");
		return;
	}
	if (!is_down(s->state))
		return;
	shell_word(all->name, word);
	found(all->d, FOUND_BAD, "sentinel %s does not reach the master %s (%s)", s->where, s->names,
	      sentinel_field(s->state, "flags"));
	/* Right after a master's death it is like that, too, and the password, pasted, would be wrong then. */
	mend(all->d,
	     "%s SENTINEL MASTER %s    # where the master is dead, a failover is due: wait, or start it; where it asks for a password, SENTINEL SET %s auth-pass PASSWORD",
	     s->cli, word, word);
}

/* --- The next failover. ------------------------------------------------------------------------------------------- */

/* Returns how many. */
static size_t list_those(const struct reply *lists, bool (*is)(const struct reply *), struct buf *out)
{
	size_t n = 0;

	for (size_t i = 0; i < reply_count(lists); i++) {
		const struct reply *one = reply_at(lists, i);

		if (is(one))
			buf_printf(out, "%s%s:%s", n++ > 0 ? ", " : "", sentinel_field(one, "ip"),
				   sentinel_field(one, "port"));
	}
	return n;
}

static void mend_quorum(const struct sentinels *all, size_t known)
{
	struct buf down = BUF_INIT(LIST_MAX);
	char word[DOCTOR_TEXT_MAX];

	shell_word(all->name, word);
	(void)list_those(all->first->others, is_down, &down);
	if (!all->refused[SENTINELS] && quorum_of(all) > (long)known)
		mend(all->d, "%s SENTINEL SET %s quorum %zu    # at each sentinel: there are %zu", all->first->cli,
		     word, known / 2 + 1, known);
	else if (down.len > 0)
		mend(all->d, "systemctl start redis-sentinel    # at %s", buf_cstr(&down));
	else
		mend(all->d, "%s SENTINEL SENTINELS %s    # which of them are away", all->first->cli, word);
	buf_release(&down);
}

static void tell_quorum(struct sentinels *all)
{
	size_t known = reply_count(all->first->others) + 1;
	struct error err = {0};

	if (ask(all, all->first, CKQUORUM, NULL, &err) && !all->refused[CKQUORUM]) {
		found(all->d, FOUND_BAD, "sentinel %s: %s; the next failover would not happen", all->first->where,
		      err.msg);
		mend_quorum(all, known);
	} else if (all->refused[CKQUORUM] || all->refused[SENTINELS] || all->refused[MASTER]) {
		return; /* told with the others */
	} else if (known < ENOUGH) {
		found(all->d, FOUND_WARN,
		      "%zu sentinel%s in all: where one is lost, the others are no majority, and no failover happens",
		      known, known == 1 ? "" : "s");
		mend(all->d, "redis-sentinel sentinel.conf    # on more machines, until there are %d", ENOUGH);
	} else {
		found(all->d, FOUND_OK,
		      "a failover needs %ld of %zu sentinels to see the master down, and most of them to agree: they are there",
		      quorum_of(all), known);
	}
}

static bool is_cut_off(const struct reply *replica)
{
	return !is_down(replica) && strcmp(sentinel_field(replica, "master-link-status"), "err") == 0;
}

static bool is_kept_back(const struct reply *replica)
{
	return !is_down(replica) && !is_cut_off(replica) && strcmp(sentinel_field(replica, "slave-priority"), "0") == 0;
}

/* Why a replica could not take over; each is true of no replica of which another is. */
static const struct {
	const char *words;
	bool (*is)(const struct reply *replica);
} hindrances[] = {
	{"away", is_down},
	{"cut off from the master, or syncing", is_cut_off},
	{"of priority 0", is_kept_back},
};

/* "; away: HOST:PORT, …; …". Returns how many. */
static size_t list_hindered(const struct reply *replicas, struct buf *out)
{
	struct buf those = BUF_INIT(LIST_MAX);
	size_t n = 0;

	for (size_t i = 0; i < sizeof hindrances / sizeof *hindrances; i++) {
		buf_clear(&those);
		n += list_those(replicas, hindrances[i].is, &those);
		if (those.len > 0)
			buf_printf(out, "; %s: %s", hindrances[i].words, buf_cstr(&those));
	}
	buf_release(&those);
	return n;
}

static void mend_replicas(const struct sentinels *all, const struct reply *replicas)
{
	struct buf down = BUF_INIT(LIST_MAX);
	char word[DOCTOR_TEXT_MAX];

	shell_word(all->name, word);
	if (list_those(replicas, is_down, &down) > 0)
		mend(all->d,
		     "systemctl start redis-server    # at %s; SENTINEL RESET %s forgets those that are gone for good",
		     buf_cstr(&down), word);
	else
		mend(all->d,
		     "%s SENTINEL REPLICAS %s    # their master-link-status, of which err passes after a failover, and slave-priority",
		     all->first->cli, word);
	buf_release(&down);
}

static void tell_replicas(struct sentinels *all)
{
	struct reply *replicas = NULL;
	struct buf why = BUF_INIT(LIST_MAX);
	struct error err = {0};
	int rc = ask(all, all->first, REPLICAS, &replicas, &err);
	size_t n = reply_count(replicas), hindered = list_hindered(replicas, &why);

	if (rc == 0 && n == 0) {
		found(all->d, FOUND_WARN, "no replica: nobody could take over from %s", all->first->names);
		mend(all->d, "redis-server --replicaof %s %d    # on another machine, with its own settings",
		     all->first->master.host, all->first->master.port);
	} else if (n > 0) {
		char able[32];

		snprintf(able, sizeof able, "%zu", n - hindered);
		found(all->d, hindered ? FOUND_WARN : FOUND_OK, "%s of %zu replica%s could take over%s",
		      hindered < n ? able : "none", n, n == 1 ? "" : "s", buf_cstr(&why));
		if (hindered)
			mend_replicas(all, replicas);
	}
	buf_release(&why);
	reply_free(replicas);
}

/* By the id, since redis_url may have other names for the same; one that is away told none. */
static bool is_named(const struct sentinels *all, const struct reply *other)
{
	for (size_t i = 0; i < all->n; i++) {
		const struct sentinel *s = &all->all[i];

		if ((*s->id && strcmp(s->id, sentinel_field(other, "runid")) == 0) ||
		    (strcmp(s->at->host, sentinel_field(other, "ip")) == 0 && s->at->port == number_of(other, "port")))
			return true;
	}
	return all->away > 0 && is_down(other);
}

static void tell_unnamed(const struct sentinels *all)
{
	struct buf more = BUF_INIT(LIST_MAX), points = BUF_INIT(LIST_MAX);

	if (all->refused[MYID]) /* hosts have several names */
		return;
	for (size_t i = 0; i < all->n; i++)
		buf_printf(&points, "%s%s", i > 0 ? "," : "", all->all[i].where);
	for (size_t i = 0; i < reply_count(all->first->others); i++) {
		const struct reply *other = reply_at(all->first->others, i);
		struct redis_point at = {.port = (int)number_of(other, "port")};
		char where[WHERE_MAX];

		if (is_named(all, other))
			continue;
		snprintf(at.host, sizeof at.host, "%s", sentinel_field(other, "ip"));
		point_show(&at, where, sizeof where);
		buf_printf(&more, "%s%s", more.len ? "," : "", where);
	}
	if (more.len > 0) {
		found(all->d, FOUND_WARN, "redis_url does not name all: there is %s, too", buf_cstr(&more));
		mend_url(all->d, "+sentinel", NULL, "%s,%s/%s/%d", buf_cstr(&points), buf_cstr(&more), all->name,
			 all->d->look.address.db);
	}
	buf_release(&more);
	buf_release(&points);
}

/* --- What they did not tell. -------------------------------------------------------------------------------------- */

static void tell_refused(const struct sentinels *all)
{
	const struct redis_address *a = &all->d->look.address;
	const struct sentinel *s = all->refuser;
	const char *user = s && s->with_login && a->username ? a->username : "default";
	struct buf names = BUF_INIT(LIST_MAX), words = BUF_INIT(LIST_MAX);
	char word[DOCTOR_TEXT_MAX];

	for (size_t q = 0; q < QUESTIONS; q++) {
		if (!all->refused[q])
			continue;
		buf_printf(&names, "%s%s", names.len ? ", " : "", questions[q].right);
		buf_printf(&words, " '+%s'", questions[q].right);
	}
	if (s) {
		found(all->d, FOUND_WARN,
		      "how a failover would go cannot be told in full: user %s may not ask sentinel %s for %s", user,
		      s->where, buf_cstr(&names));
		mend(all->d,
		     "%s ACL SETUSER %s%s    # as a user who may, at each sentinel; SENTINEL FLUSHCONFIG keeps it",
		     s->cli, shell_word(user, word), buf_cstr(&words));
	}
	buf_release(&names);
	buf_release(&words);
}

/* --- All of it. --------------------------------------------------------------------------------------------------- */

void doctor_sentinels(struct doctor *d)
{
	const struct redis_address *a = &d->look.address;
	struct sentinels all = {.d = d, .name = a->master, .n = a->npoints};
	size_t bad = d->counts[FOUND_BAD];
	struct error err = {0};

	all.all = calloc(all.n, sizeof *all.all);
	for (size_t i = 0; all.all && i < all.n; i++) {
		all.all[i].at = &a->points[i];
		ask_one(&all, &all.all[i]);
	}
	if (all.all) {
		count_names(&all);
		tell_each(&all);
	}
	if (all.first) {
		tell_names(&all);
		tell_master(&all);
		tell_quorum(&all);
		tell_replicas(&all);
		tell_unnamed(&all);
		tell_refused(&all);
	}
	/* As workers and producers find it. */
	if (doctor_find(d, &err)) {
		d->unreachable = true;
		if (bad == d->counts[FOUND_BAD]) {
			found(d, FOUND_BAD, "%s; what is in it was not looked at", err.msg);
			mend_later(d, "a moment ago they named one");
		}
	}
	for (size_t i = 0; all.all && i < all.n; i++) {
		redis_close(all.all[i].redis);
		reply_free(all.all[i].state);
		reply_free(all.all[i].others);
	}
	free(all.all);
}
