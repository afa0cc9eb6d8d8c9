/* SPDX-License-Identifier: MIT
 *
 * doctor: what Redis's ACL lets this user do. Each command that producers and workers need is asked for with its real keys, and none is carried
 * out: between MULTI and DISCARD Redis judges rights as it queues. A user without MULTI may have ACL DRYRUN (Redis 7). Each server is asked about its own
 * queues, over a connection to it alone.
 *
 * deploy/redis/users.acl gives each role just these rights; a test holds the two against each other. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/doctor.h"
#include "cli/out.h"

#define NAMES_MAX 4096

/* Roles. An operator is a viewer who mends. */
enum { PRODUCER = 1, WORKER = 2, VIEWER = 4, OPERATOR = 8, PEOPLE = VIEWER | OPERATOR };

/* A word that begins with a colon is a key of the queue. Scripts are judged by what they call, too. */
static const struct right {
	const char *name; /* as ACL SETUSER takes it */
	unsigned who;
	const char *form;
} rights[] = {
	{"info", PRODUCER | WORKER | PEOPLE, "INFO default"},
	{"time", PRODUCER | WORKER | PEOPLE, "TIME"},
	{"client|setname", PRODUCER, "CLIENT SETNAME x"},
	{"lpush", PRODUCER | OPERATOR, "LPUSH :ready x"},
	{"blmove", PRODUCER | OPERATOR, "BLMOVE :result:x :result:x LEFT LEFT 1"},
	{"blmove", WORKER, "BLMOVE :ready :slot:x:0 RIGHT LEFT 1"},
	{"lindex", PRODUCER | WORKER | PEOPLE, "LINDEX :result:x 0"},
	{"blpop", PRODUCER, "BLPOP :result:x 1"},
	{"set", PRODUCER | OPERATOR, "SET :audio:x x EX 1"},
	{"append", PRODUCER | OPERATOR, "APPEND :audio:x x"},
	{"get", PRODUCER | PEOPLE, "GET :audio:x"},
	{"getrange", PRODUCER | WORKER | PEOPLE, "GETRANGE :audio:x 0 1"},
	{"del", PRODUCER | OPERATOR, "DEL :audio:x"},
	{"unlink", PRODUCER, "UNLINK :audio:x"},
	{"blpop", PRODUCER, "BLPOP :reply:x 1"},
	{"lpop", PRODUCER, "LPOP :reply:x 1"},
	{"rpush", PRODUCER, "RPUSH :reply:x x"},
	{"expire", PRODUCER, "EXPIRE :reply:x 1"},
	{"unlink", PRODUCER, "UNLINK :reply:x"},
	{"xread", PRODUCER | OPERATOR, "XREAD COUNT 1 STREAMS :stream:x 0"},
	{"xrevrange", PRODUCER | WORKER, "XREVRANGE :stream:x + - COUNT 1"},
	{"zadd", PRODUCER | OPERATOR, "ZADD :cancelled 1 x"},
	{"zcount", PRODUCER | PEOPLE, "ZCOUNT :workers 0 1"},
	{"exists", PRODUCER | WORKER | PEOPLE, "EXISTS :result:x"},
	{"script|load", WORKER | OPERATOR, "SCRIPT LOAD x"},
	{"evalsha", WORKER, "EVALSHA x 2 :ready :slot:x:0"},
	{"client|id", WORKER, "CLIENT ID"},
	{"client|unblock", WORKER, "CLIENT UNBLOCK 1"},
	{"append", WORKER, "APPEND :stage:x:0 x"},
	{"set", WORKER, "SET :sent:x:0 x PX 1"},
	{"del", WORKER, "DEL :sent:x:0"},
	{"get", WORKER, "GET :crashes:x"},
	{"hdel", WORKER, "HDEL :worker:x x"},
	{"hget", WORKER | PEOPLE, "HGET :pieces:x x"},
	{"hincrby", WORKER, "HINCRBY :stats x 1"},
	{"hlen", WORKER, "HLEN :pieces:x"},
	{"hset", WORKER, "HSET :worker:x x x"},
	{"incr", WORKER, "INCR :crashes:x"},
	{"llen", WORKER | PEOPLE, "LLEN :ready"},
	{"lmove", WORKER, "LMOVE :ready :slot:x:0 RIGHT LEFT"},
	{"lrange", WORKER | PEOPLE, "LRANGE :slot:x:0 0 -1"},
	{"lrem", WORKER, "LREM :slot:x:0 1 x"},
	{"lpush", WORKER, "LPUSH :dead x"},
	{"pexpire", WORKER, "PEXPIRE :result:x 1"},
	{"rename", WORKER, "RENAME :stage:x:0 :audio:x"},
	{"rpop", WORKER, "RPOP :dead"},
	{"rpush", WORKER, "RPUSH :ready x"},
	{"strlen", WORKER, "STRLEN :audio:x"},
	{"type", WORKER | PEOPLE, "TYPE :reply:x"},
	{"unlink", WORKER, "UNLINK :pieces:x"},
	{"xadd", WORKER, "XADD :stream:x * x x"},
	{"zadd", WORKER | OPERATOR, "ZADD :delayed 1 x"},
	{"zcard", WORKER | PEOPLE, "ZCARD :delayed"},
	{"zmscore", WORKER, "ZMSCORE :cancelled x"},
	{"zrange", WORKER | PEOPLE, "ZRANGE :gone 0 1"},
	{"zrangebyscore", WORKER, "ZRANGEBYSCORE :delayed 0 1"},
	{"zrem", WORKER, "ZREM :delayed x"},
	{"zremrangebyscore", WORKER, "ZREMRANGEBYSCORE :cancelled 0 1"},
	{"zscore", WORKER | PEOPLE, "ZSCORE :workers x"},
	{"hmget", PEOPLE, "HMGET :stats x"},
	{"pttl", PEOPLE, "PTTL :paused"},
	{"set", OPERATOR, "SET :paused x"},
	{"del", OPERATOR, "DEL :paused"},
	{"evalsha", OPERATOR, "EVALSHA x 1 :dead"},
	{"lrem", OPERATOR, "LREM :dead 1 x"},
	{"zrem", OPERATOR, "ZREM :cancelled x"},
};
#define RIGHTS (sizeof rights / sizeof *rights)

struct lack {
	unsigned
		asked; /* for whom: what is refused stands in ACL LOG, so that where the first queue tells a role, the others are asked for its rights alone */
	bool commands[RIGHTS];
	unsigned keys[QUEUES_MAX]; /* for whom keys of that queue are closed */
};

static void add_words(struct redis_args *args, const struct keys *keys, const char *form)
{
	while (*form) {
		size_t n = strcspn(form, " ");
		char key[KEY_MAX];

		if (*form == ':') {
			int len = snprintf(key, sizeof key, "%s%.*s", keys->stem, (int)n - 1, form + 1);

			redis_arg(args, key, (size_t)len);
		} else {
			redis_arg(args, form, n);
		}
		form += n + strspn(form + n, " ");
	}
}

/* What Redis says of one command: an error where it is queued, a text where it is a dry run. */
static void judge(struct lack *lack, size_t right, size_t queue, const struct reply *reply, bool dry)
{
	const char *text = dry ? reply_bytes(reply, NULL) : reply_error(reply);

	if (!text || strcmp(text, "OK") == 0 || (!dry && strncmp(text, "NOPERM ", 7) != 0))
		return;
	if (strstr(text, "to run"))
		lack->commands[right] = true;
	else
		lack->keys[queue] |= rights[right].who;
}

static int send_all(struct doctor *d, const struct lack *lack, size_t queue, const char *user, struct error *err)
{
	struct redis_args args = {0};
	struct keys keys;
	int rc = user ? 0 : redis_appendf(d->at->redis, err, "MULTI");

	keys_init(&keys, d->settings->key_prefix, d->look.queues[queue]);
	for (size_t i = 0; i < RIGHTS && rc == 0; i++) {
		if (!(rights[i].who & lack->asked))
			continue;
		redis_args_clear(&args);
		if (user) {
			redis_arg_str(&args, "ACL");
			redis_arg_str(&args, "DRYRUN");
			redis_arg_str(&args, user);
		}
		add_words(&args, &keys, rights[i].form);
		rc = redis_append(d->at->redis, &args, err);
	}
	if (rc == 0 && !user)
		rc = redis_appendf(d->at->redis, err, "DISCARD");
	redis_args_release(&args);
	return rc;
}

/* A queue's forms in one trip. user NULL: between MULTI and DISCARD. *told: whether Redis lets us ask so. It is asked MULTI alone before
 * (doctor_rights): what follows one that was refused would be carried out. */
static int ask(struct doctor *d, struct lack *lack, size_t queue, const char *user, bool *told, struct error *err)
{
	struct reply *reply = NULL;

	if (send_all(d, lack, queue, user, err))
		return -1;
	for (size_t i = 0; i < RIGHTS + (user ? 0 : 2); i++) {
		size_t right = user ? i : i - 1;

		if (right < RIGHTS && !(rights[right].who & lack->asked))
			continue;
		if (redis_receive(d->at->redis, &reply, err))
			return -1;
		if (user && reply_error(reply))
			*told = false;
		if (right < RIGHTS)
			judge(lack, right, queue, reply, user);
		reply_free(reply);
		reply = NULL;
	}
	return 0;
}

/* Returns owned; NULL where it is not told. */
static char *who_am_i(struct doctor *d)
{
	struct reply *reply = NULL;
	size_t len = 0;
	char *name;

	if (redis_call(d->at->redis, &reply, NULL, "ACL WHOAMI"))
		return NULL;
	name = reply_steal(reply, &len);
	reply_free(reply);
	return name;
}

/* --- Telling. ----------------------------------------------------------------------------------------------------- */

/* What a user is judged by. */
struct role {
	unsigned who;
	const char *name; /* behind "adwuma-", in users.acl */
	const char *need; /* NULL: as what lacks says */
	const char *may;  /* who has just these rights has chosen that */
	const char *but;  /* a command that those on Redis 6.2 do without: users-6.2.acl */
};
static const struct role everybody = {PRODUCER | WORKER | VIEWER, "worker", NULL, NULL, NULL};
static const struct role worker = {WORKER, "worker", "workers need", NULL, NULL};
static const struct role chosen[] = {
	{PRODUCER, "producer", "producers need",
	 "a producer: it may push jobs and take results, but neither look nor work, and no queue is looked at",
	 "zcount"},
	{VIEWER, "viewer", "viewers need",
	 "a viewer: it may look, but neither push jobs nor work, and no write is tried", NULL},
	{OPERATOR, "operator", "operators need", "an operator: it may look, mend and push jobs, but not work", NULL},
};

static bool is_of(const char *name, unsigned who)
{
	for (size_t i = 0; i < RIGHTS; i++)
		if (rights[i].who & who && strcmp(rights[i].name, name) == 0)
			return true;
	return false;
}

static bool is_spared(const struct role *role, const char *name)
{
	return role->but && strcmp(role->but, name) == 0;
}

/* It has the commands of this role and no others. */
static bool has_just(const struct lack *lack, const struct role *role)
{
	for (size_t i = 0; i < RIGHTS; i++)
		if (lack->commands[i] == is_of(rights[i].name, role->who) && !is_spared(role, rights[i].name))
			return false;
	return true;
}

/* A worker's own user may run scripts, and lacks something that producers alone need: it is not told to get that. */
static const struct role *role_of(const struct lack *lack)
{
	bool lacks_producers = false, lacks_scripts = false;

	for (size_t i = 0; i < sizeof chosen / sizeof *chosen; i++)
		if (has_just(lack, &chosen[i]))
			return &chosen[i];
	for (size_t i = 0; i < RIGHTS; i++) {
		lacks_producers = lacks_producers ||
				  (lack->commands[i] && rights[i].who & PRODUCER && !is_of(rights[i].name, WORKER));
		lacks_scripts = lacks_scripts || (lack->commands[i] && strcmp(rights[i].name, "evalsha") == 0);
	}
	return lacks_producers && !lacks_scripts ? &worker : &everybody;
}

static void forget_others(struct lack *lack, const struct role *role)
{
	for (size_t i = 0; i < RIGHTS; i++)
		lack->commands[i] = lack->commands[i] && rights[i].who & role->who && !is_spared(role, rights[i].name);
	for (size_t q = 0; q < QUEUES_MAX; q++)
		lack->keys[q] &= role->who;
}

static bool is_first(const struct lack *lack, size_t right)
{
	for (size_t i = 0; i < right; i++)
		if (lack->commands[i] && strcmp(rights[i].name, rights[right].name) == 0)
			return false;
	return lack->commands[right];
}

static const char *whose(unsigned who, const struct role *role)
{
	return role->need     ? role->need
	     : who & PRODUCER ? "producers and workers need"
	     : who & WORKER   ? "workers need (producers' rights are there)"
			      : "adwuma stats, workers and doctor need (producers' and workers' rights are there)";
}

/* A chosen role has all its commands and may lack keys, which then stand beside the commands that they are for: alone they would give too much. */
static void mend_lack(struct doctor *d, const struct role *role, const char *user, const char *words)
{
	char word[DOCTOR_TEXT_MAX];

	if (role->may)
		mend(d,
		     "%s ACL GETUSER %s    # as a user who may: line adwuma-%s of users.acl has the keys that %ss need, each beside its commands",
		     d->at->cli, shell_word(user, word), role->name, role->name);
	else
		mend(d,
		     "%s ACL SETUSER %s%s    # as a user who may; ACL SAVE keeps it%s. Line adwuma-%s of users.acl has what %ss need, and no more",
		     d->at->cli, shell_word(user, word), words,
		     d->look.address.kind == REDIS_ALONE ? "" : "; replicas have users of their own: there, too",
		     role->name, role->name);
}

static void tell_lack(struct doctor *d, struct lack *lack, const char *user)
{
	const struct role *role = role_of(lack);
	struct buf names = BUF_INIT(NAMES_MAX), words = BUF_INIT(NAMES_MAX);
	char word[DOCTOR_TEXT_MAX];
	unsigned who = 0;

	forget_others(lack, role);
	d->at->only_looks = role->who == VIEWER;
	d->at->only_pushes = role->who == PRODUCER;
	for (size_t i = 0; i < RIGHTS; i++) {
		if (lack->commands[i])
			who |= rights[i].who;
		if (!is_first(lack, i))
			continue;
		buf_printf(&names, "%s%s", names.len ? ", " : "", rights[i].name);
		buf_printf(&words, strchr(rights[i].name, '|') ? " '+%s'" : " +%s", rights[i].name);
	}
	for (size_t q = 0; q < d->look.nqueues; q++) {
		if (!lack->keys[q])
			continue;
		who |= lack->keys[q];
		buf_printf(&names, "%skeys of queue %s", names.len ? ", " : "", d->look.queues[q]);
		buf_printf(&words, " '~%s:{%s}:*'", d->settings->key_prefix, d->look.queues[q]);
	}
	if (who == 0 && role->may) {
		found(d, FOUND_WARN, "user %s has the rights of %s", user, role->may);
		mend(d, "%sadwuma-worker    # and its password, as whom workers run; %ss lack nothing",
		     set_of(d, "ADWUMA_REDIS_USERNAME", word), role->name);
	} else if (who == 0) {
		found(d, FOUND_OK, "user %s may do what %s", user, whose(PRODUCER, role));
	} else {
		found(d, who & (PRODUCER | WORKER) ? FOUND_BAD : FOUND_WARN, "user %s may not do all that %s: %s", user,
		      whose(who, role), buf_cstr(&names));
		mend_lack(d, role, user, buf_cstr(&words));
	}
	buf_release(&names);
	buf_release(&words);
}

void doctor_rights(struct doctor *d)
{
	char *name = who_am_i(d), word[DOCTOR_TEXT_MAX];
	const char *user = name ? name : d->look.address.username ? d->look.address.username : "default";
	struct lack lack = {.asked = ~0U};
	struct error err = {0};
	bool told = true, by_multi = false;
	int rc = redis_call(d->at->redis, NULL, &err, "MULTI");

	by_multi = rc == 0 && redis_call(d->at->redis, NULL, &err, "DISCARD") == 0;
	if (rc == 0 && !by_multi) /* a MULTI that cannot be left */
		rc = doctor_connect(d, &err);
	else if (rc && err.code == ERR_REFUSED)
		rc = 0;
	for (size_t i = 0; i < d->look.nqueues && rc == 0 && told; i++) {
		if (d->of[i] != d->at)
			continue;
		rc = ask(d, &lack, i, by_multi ? NULL : user, &told, &err);
		lack.asked = role_of(&lack)->who;
	}
	if (rc) {
		found_failed(d, NULL, &err);
	} else if (!told) {
		found(d, FOUND_WARN, "user %s may use neither MULTI nor ACL DRYRUN, so its rights cannot be told",
		      user);
		mend(d, "%s ACL SETUSER %s +multi +discard    # as a user who may; both let it do no more than it may",
		     d->at->cli, shell_word(user, word));
	} else {
		tell_lack(d, &lack, user);
	}
	free(name);
}
