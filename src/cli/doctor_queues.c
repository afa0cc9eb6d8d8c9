/* SPDX-License-Identifier: MIT
 *
 * doctor: what is in the queues. A check tells of each queue that is not well, and once that the others are. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "cli/doctor.h"
#include "cli/out.h"
#include "cli/slots.h"

#define WRITE_TTL_MS 10000 /* of what a write leaves where we die before we delete it */
#define REAP_MS 60000	   /* living workers take a dead one's jobs back long before */
#define DEAD_WORKERS_TOLD 10
#define WHY_MAX 200 /* bytes of a pause's reason */
#define NAMES_MAX (QUEUES_MAX * (QUEUE_NAME_MAX + 1))

#define NOT_ASKED 2

/* What a check does with a queue, at the server that has it: 1 it is well, 0 it is not and that was told, -1 with err, or NOT_ASKED. */
typedef int queue_fn(struct doctor *d, const char *queue, const struct keys *keys, struct error *err);

/* Queues that failed alike: they are told in one line. */
struct failure {
	struct server *at;
	struct error err;
	struct buf queues;
};

static void tell_failure(struct doctor *d, struct failure *f)
{
	struct server *at = d->at;

	d->at = f->at;
	if (f->queues.len > 0)
		found_failed(d, buf_cstr(&f->queues), &f->err);
	d->at = at;
	buf_clear(&f->queues);
}

static void add_failure(struct doctor *d, struct failure *f, const char *queue, const struct error *err)
{
	if (f->at != d->at || strcmp(f->err.msg, err->msg) != 0)
		tell_failure(d, f);
	f->at = d->at;
	f->err = *err;
	buf_printf(&f->queues, "%s%s", f->queues.len ? "," : "", queue);
	if (err->code == ERR_LINK) /* the next one needs a new connection */
		tell_failure(d, f);
}

/* Returns how many are well; *looked: how many there are; unwell[i] (NULL is fine): whether queue i is not. A queue that cannot be read was told by the
 * check of types. */
static size_t each_queue(struct doctor *d, queue_fn *look, bool *unwell, size_t *looked)
{
	struct failure failure = {.queues = BUF_INIT(NAMES_MAX)};
	size_t well = 0;

	*looked = 0;
	for (size_t i = 0; i < d->look.nqueues; i++) {
		struct error err = {0};
		struct keys keys;
		int rc;

		if (d->unreadable[i] || !doctor_enter(d, i))
			continue;
		keys_init(&keys, d->settings->key_prefix, d->look.queues[i]);
		rc = look(d, d->look.queues[i], &keys, &err);
		if (rc < 0)
			add_failure(d, &failure, d->look.queues[i], &err);
		*looked += rc != NOT_ASKED;
		well += rc == 1;
		if (unwell)
			unwell[i] = rc <= 0;
	}
	d->at = NULL;
	tell_failure(d, &failure);
	buf_release(&failure.queues);
	return well;
}

static const char *queues_word(size_t n)
{
	return n == 1 ? "queue" : "queues";
}

static int number(struct doctor *d, const char *command, const char *key, int64_t *out, struct error *err)
{
	struct reply *reply = NULL;

	if (redis_call(d->at->redis, &reply, err, command, key))
		return -1;
	*out = reply_int(reply, 0);
	reply_free(reply);
	return 0;
}

/* --- Types. ------------------------------------------------------------------------------------------------------- */

static int check_type(struct doctor *d, const char *key, const char *type, struct error *err)
{
	char word[DOCTOR_TEXT_MAX], to[KEY_MAX + 8], to_word[DOCTOR_TEXT_MAX];
	struct reply *reply = NULL;
	const char *is;
	int well;

	if (redis_call(d->at->redis, &reply, err, "TYPE %s", key))
		return -1;
	is = reply_bytes(reply, NULL);
	well = !is || strcmp(is, "none") == 0 || strcmp(is, type) == 0;
	if (!well) {
		snprintf(to, sizeof to, "%s.wrong", key);
		found(d, FOUND_BAD, "%s is a %s and must be a %s: somebody else wrote it, and its queue stands still",
		      key, is, type);
		mend(d, "%s RENAMENX %s %s", d->at->cli, shell_word(key, word), shell_word(to, to_word));
	}
	reply_free(reply);
	return well;
}

static int queue_types(struct doctor *d, const char *queue, const struct keys *keys, struct error *err)
{
	const struct {
		const char *key, *type;
	} all[] = {
		{keys->ready, "list"},	      {keys->delayed, "zset"}, {keys->dead, "list"},
		{keys->dead_bytes, "string"}, {keys->workers, "zset"}, {keys->cancelled, "zset"},
		{keys->gone, "zset"},	      {keys->stats, "hash"},   {keys->billed, "hash"},
	};
	int well = 1;

	(void)queue;
	for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
		int rc = check_type(d, all[i].key, all[i].type, err);

		if (rc < 0)
			return rc;
		well = well && rc;
	}
	return well;
}

void doctor_types(struct doctor *d)
{
	size_t looked, well = each_queue(d, queue_types, d->unreadable, &looked);

	if (well > 0 && well == looked)
		found(d, FOUND_OK, "as they must be in %zu %s", well, queues_word(well));
}

/* --- Writes. ------------------------------------------------------------------------------------------------------ */

static int queue_writes(struct doctor *d, const char *queue, const struct keys *keys, struct error *err)
{
	struct reply *reply = NULL;
	char name[64], key[KEY_MAX], word[DOCTOR_TEXT_MAX];
	const char *read;
	int well;

	if (d->at->replica || d->at->only_looks) /* as was told */
		return NOT_ASKED;
	snprintf(name, sizeof name, "%ld-%" PRId64, (long)getpid(), clock_real_ms());
	key_doctor(keys, name, key);
	if (redis_call(d->at->redis, NULL, err, "SET %s %s PX %d", key, name, WRITE_TTL_MS) ||
	    redis_call(d->at->redis, &reply, err, "GET %s", key))
		return -1;
	read = reply_bytes(reply, NULL);
	well = read && strcmp(read, name) == 0;
	reply_free(reply);
	if (redis_call(d->at->redis, NULL, err, "DEL %s", key))
		return -1;
	if (!well) {
		found(d, FOUND_BAD, "%s: what was written a moment ago is not there", queue);
		mend(d, "%s GET %s    # does something between us and Redis keep it back, or delete it?", d->at->cli,
		     shell_word(key, word));
	}
	return well;
}

void doctor_writes(struct doctor *d)
{
	size_t looked, well = each_queue(d, queue_writes, NULL, &looked);

	if (looked > 0 && well == looked)
		found(d, FOUND_OK, "a key written, read and deleted in %zu %s", well, queues_word(well));
}

/* --- Pauses. ------------------------------------------------------------------------------------------------------ */

static int queue_pause(struct doctor *d, const char *queue, const struct keys *keys, struct error *err)
{
	struct reply *reply = NULL;
	int64_t left_ms;
	char left[TIME_TEXT_MAX], flags[DOCTOR_TEXT_MAX];
	const char *why;

	if (number(d, "PTTL %s", keys->paused, &left_ms, err))
		return -1;
	if (left_ms == -2) /* no such key */
		return 1;
	(void)redis_call(d->at->redis, &reply, NULL, "GETRANGE %s 0 %d", keys->paused,
			 WHY_MAX - 1); /* any type will do */
	why = reply_bytes(reply, NULL);
	show_seconds(left_ms + 999, left);
	found(d, FOUND_WARN, "%s is paused%s%s%s%s", queue, left_ms >= 0 ? " for " : "", left_ms >= 0 ? left : "",
	      why && *why ? ": " : "", why ? why : "");
	mend(d, "adwuma resume%s %s", given(d, "queue", flags), queue);
	reply_free(reply);
	return 0;
}

void doctor_pauses(struct doctor *d)
{
	size_t looked, well = each_queue(d, queue_pause, NULL, &looked);

	if (looked > 0 && well == looked)
		found(d, FOUND_OK, "none in %zu %s", well, queues_word(well));
}

/* --- Workers. ----------------------------------------------------------------------------------------------------- */

static void mend_workers(struct doctor *d, const char *queues, const char *comment)
{
	char flags[DOCTOR_TEXT_MAX];

	mend(d, "systemctl start adwumad    # %sor: adwumad%s --queues %s", comment, given(d, "queue", flags), queues);
}

/* Queues without any are told in one line. */
static int queue_workers(struct doctor *d, const char *queue, const struct keys *keys, struct error *err)
{
	int64_t live, ready, delayed;

	if (count_live_workers(d->at->redis, keys, &live, err) || number(d, "LLEN %s", keys->ready, &ready, err) ||
	    number(d, "ZCARD %s", keys->delayed, &delayed, err))
		return -1;
	if (live > 0)
		return 1;
	buf_printf(&d->unserved, "%s%s", d->unserved.len ? "," : "", queue);
	if (ready + delayed > 0)
		buf_printf(&d->waiting, "%s%" PRId64 " in %s", d->waiting.len ? ", " : "", ready + delayed, queue);
	return 0;
}

void doctor_workers(struct doctor *d)
{
	size_t looked, well;

	d->unserved = BUF_INIT(NAMES_MAX);
	d->waiting = BUF_INIT(2 * NAMES_MAX);
	well = each_queue(d, queue_workers, NULL, &looked);
	if (d->unserved.len > 0) {
		found(d, d->waiting.len > 0 ? FOUND_BAD : FOUND_WARN, "no living worker serves %s; %s%s",
		      buf_cstr(&d->unserved), d->waiting.len > 0 ? "jobs wait there: " : "nothing waits there",
		      buf_cstr(&d->waiting));
		mend_workers(d, buf_cstr(&d->unserved), "");
	}
	buf_release(&d->unserved);
	buf_release(&d->waiting);
	if (looked > 0 && well == looked)
		found(d, FOUND_OK, "in %zu %s", well, queues_word(well));
}

struct overdue {
	struct doctor *d;
	const char *queue;
	const struct keys *keys;
	int64_t now_ms, live;
	size_t n;
};

static bool count_job(void *ctx, unsigned slot, const char *payload, size_t len)
{
	(void)slot;
	(void)payload;
	(void)len;
	++*(size_t *)ctx;
	return true;
}

static void tell_dead_worker(struct overdue *o, const char *worker, int64_t late_ms, size_t jobs)
{
	char late[TIME_TEXT_MAX];

	if (++o->n > DEAD_WORKERS_TOLD)
		return;
	show_seconds(late_ms, late);
	found(o->d, jobs > 0 ? FOUND_BAD : FOUND_WARN,
	      "%s: the lease of %s ran out %s ago, it holds %zu job%s, and nobody takes %s back", o->queue, worker,
	      late, jobs, jobs == 1 ? "" : "s", jobs == 1 ? "it" : "them");
	mend_workers(o->d, o->queue, "any worker of this queue does it; ");
}

static int look_at_lease(void *ctx, const char *worker, unsigned nslots, struct error *err)
{
	struct overdue *o = ctx;
	struct reply *lease = NULL;
	int64_t late_ms;
	size_t jobs = 0;

	if (redis_call(o->d->at->redis, &lease, err, "ZSCORE %s %s", o->keys->workers, worker))
		return -1;
	late_ms = o->now_ms - reply_int(lease, o->now_ms);
	reply_free(lease);
	if (late_ms <= (o->live > 0 ? REAP_MS : 0))
		return 0;
	if (each_held(o->d->at->redis, o->keys, worker, nslots, count_job, &jobs, err))
		return -1;
	tell_dead_worker(o, worker, late_ms, jobs);
	return 0;
}

static int queue_leases(struct doctor *d, const char *queue, const struct keys *keys, struct error *err)
{
	struct overdue o = {.d = d, .queue = queue, .keys = keys};
	char flags[DOCTOR_TEXT_MAX];

	if (redis_now_ms(d->at->redis, &o.now_ms, err) || count_live_workers(d->at->redis, keys, &o.live, err) ||
	    each_worker(d->at->redis, keys, look_at_lease, &o, err))
		return -1;
	if (o.n > DEAD_WORKERS_TOLD) {
		found(d, FOUND_WARN, "%s: and %zu more such workers", queue, o.n - DEAD_WORKERS_TOLD);
		mend(d, "adwuma workers%s --queue %s", given(d, "queue", flags), queue);
	}
	return o.n == 0;
}

void doctor_leases(struct doctor *d)
{
	size_t looked, well = each_queue(d, queue_leases, NULL, &looked);

	if (looked > 0 && well == looked)
		found(d, FOUND_OK, "no dead worker's is left in %zu %s", well, queues_word(well));
}

/* --- Dead jobs. --------------------------------------------------------------------------------------------------- */

static int queue_dead(struct doctor *d, const char *queue, const struct keys *keys, struct error *err)
{
	int64_t dead, bytes;
	char flags[DOCTOR_TEXT_MAX];

	if (number(d, "LLEN %s", keys->dead, &dead, err) || number(d, "GET %s", keys->dead_bytes, &bytes, err))
		return -1;
	if (dead == 0)
		return 1;
	found(d, FOUND_WARN, "%s: %" PRId64 " failed job%s in %" PRId64 " KiB%s", queue, dead, dead == 1 ? "" : "s",
	      (bytes + 1023) / 1024,
	      dead >= d->settings->dead_max_jobs
		      ? ", as many as are kept (dead_max_jobs): each new one drops the oldest"
		      : "");
	mend(d, "adwuma dead list%s --queue %s    # then dead retry, or dead purge", given(d, "queue", flags), queue);
	return 0;
}

void doctor_dead(struct doctor *d)
{
	size_t looked, well = each_queue(d, queue_dead, NULL, &looked);

	if (looked > 0 && well == looked)
		found(d, FOUND_OK, "none in %zu %s", well, queues_word(well));
}
