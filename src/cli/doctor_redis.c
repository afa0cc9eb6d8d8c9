/* SPDX-License-Identifier: MIT
 *
 * doctor: the server. What INFO and CONFIG do not tell is not judged: hosted ones hide much. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "cli/doctor.h"
#include "cli/out.h"
#include "cli/slots.h"

#define FULL_WARN 80 /* per cent of maxmemory */
#define FULL_BAD 95
#define SYSTEM_WARN 75	/* per cent of the machine's memory, where there is no maxmemory */
#define CLIENTS_WARN 90 /* per cent of maxclients */
#define TRIPS 100
#define TRIPS_MS 2000 /* for all of them */
#define MEDIAN_WARN_US 5000
#define WORST_WARN_US 250000
#define DAY_S 86400
#define CERTIFICATE_WARN_S (14 * (int64_t)DAY_S)
#define CLOCK_WARN_MS 1000
#define CLOCK_BAD_MS 30000 /* not_before_ms and expires_at_ms go by it */

/* --- Asking. ------------------------------------------------------------------------------------------------------ */

static int64_t info_int(const struct doctor *d, const char *name, int64_t otherwise)
{
	const char *value = d->at->info ? redis_info_value(d->at->info, name) : NULL;
	char *end;
	long long n = value ? strtoll(value, &end, 10) : 0;

	return value && end != value ? n : otherwise;
}

/* A word of INFO, "" where it does not say. Returns out. */
static const char *info_word(const struct doctor *d, const char *name, char out[WORD_MAX])
{
	const char *value = d->at->info ? redis_info_value(d->at->info, name) : NULL;

	snprintf(out, WORD_MAX, "%.*s", value ? (int)strcspn(value, "\r\n") : 0, value ? value : "");
	return out;
}

static bool info_is(const struct doctor *d, const char *name, const char *word)
{
	char value[WORD_MAX];

	return strcmp(info_word(d, name, value), word) == 0;
}

/* False: it does not tell, and value is "". */
static bool config_word(const struct doctor *d, const char *name, char value[WORD_MAX])
{
	struct reply *reply = NULL;
	const char *word;

	*value = '\0';
	if (!d->at->redis || redis_call(d->at->redis, &reply, NULL, "CONFIG GET %s", name))
		return false;
	word = reply_bytes(reply_at(reply, 1), NULL);
	snprintf(value, WORD_MAX, "%s", word ? word : "");
	reply_free(reply);
	return word;
}

static int64_t config_int(const struct doctor *d, const char *name)
{
	char value[WORD_MAX];

	return config_word(d, name, value) ? strtoll(value, NULL, 10) : 0;
}

void mend_config(struct doctor *d, const char *name, const char *value)
{
	char file[WORD_MAX], word[DOCTOR_TEXT_MAX];

	info_word(d, "config_file", file);
	mend(d, "%s CONFIG SET %s %s    # and for good, in %s: %s %s", d->at->cli, name, shell_word(value, word),
	     *file ? file : "its redis.conf", name, value);
}

/* --- The connection. ---------------------------------------------------------------------------------------------- */

static void read_info(struct doctor *d)
{
	struct error err = {0};
	char set[DOCTOR_TEXT_MAX];

	if (redis_call(d->at->redis, &d->at->info_reply, &err, "INFO default")) {
		found_failed(d, "workers and producers need INFO", &err);
		return;
	}
	d->at->info = reply_bytes(d->at->info_reply, NULL);
	if (d->at->info && info_int(d, "loading", 0) == 0)
		return;
	found(d, FOUND_BAD,
	      d->at->info ? "it still reads its data, and takes nothing yet" : "INFO says nothing: this is no Redis");
	if (d->at->info)
		mend_later(d, "in a moment it has");
	else
		mend(d, "%sredis://HOST:PORT/0", set_of(d, "ADWUMA_REDIS_URL", set));
	redis_close(d->at->redis);
	d->at->redis = NULL;
	d->unreachable = true;
}

/* What is missed where this server is. */
static void tell_absence(struct doctor *d, const struct error *err)
{
	d->unreachable = true;
	if (doctor_is_node(d))
		found(d, FOUND_BAD, "%s; %s: not looked at", err->msg, buf_cstr(&d->at->queues));
	else
		found(d, FOUND_BAD, "%s: %s; what is in it was not looked at", d->at->where, err->msg);
	mend_error(d, err->msg);
}

void doctor_redis(struct doctor *d)
{
	const struct redis_address *a = &d->look.address;
	const char *user = a->username ? a->username : "default";
	struct error err = {0};

	if (doctor_connect(d, &err)) {
		tell_absence(d, &err);
		return;
	}
	if (doctor_is_node(d))
		found(d, FOUND_OK, "answers to user %s; it has %s", user, buf_cstr(&d->at->queues));
	else
		found(d, FOUND_OK, "answers at %s%s, database %d, to user %s", d->at->where,
		      a->kind == REDIS_SENTINEL ? ", whom the sentinels name" : "", a->db, user);
	read_info(d);
}

/* --- Who answers. ------------------------------------------------------------------------------------------------- */

void doctor_version(struct doctor *d)
{
	char version[WORD_MAX], valkey[WORD_MAX];
	int major = 0, minor = 0;
	bool old;

	info_word(d, "valkey_version", valkey);
	info_word(d, "redis_version", version);
	old = sscanf(version, "%d.%d", &major, &minor) != 2 || major < REDIS_MIN_MAJOR ||
	      (major == REDIS_MIN_MAJOR && minor < REDIS_MIN_MINOR);
	if (old)
		found(d, FOUND_BAD, "Redis %s is too old: %d.%d or newer is needed", version, REDIS_MIN_MAJOR,
		      REDIS_MIN_MINOR);
	else if (*valkey)
		found(d, FOUND_OK, "Valkey %s, as Redis %s", valkey, version);
	else
		found(d, FOUND_OK, "Redis %s", version);
	if (old)
		mend(d, "apt-get install redis-server    # %d.%d or newer, or Valkey", REDIS_MIN_MAJOR,
		     REDIS_MIN_MINOR);
}

/* Of a node that the sentinels or the cluster named: a master a moment ago, or they are behind. */
static void tell_replica(struct doctor *d)
{
	char host[WORD_MAX];
	int64_t port = info_int(d, "master_port", 0);

	d->at->replica = true;
	info_word(d, "master_host", host);
	if (d->look.address.kind != REDIS_ALONE) {
		found(d, FOUND_BAD,
		      "a replica, although it was named as the master; it says that its master is %s:%" PRId64, host,
		      port);
		mend_later(d, "a failover that goes on ends within seconds");
		return;
	}
	found(d, FOUND_BAD, "a replica, which takes no jobs; its master is %s:%" PRId64, host, port);
	mend_url(d, "", NULL, "%s:%" PRId64 "/%d", host, port, d->look.address.db);
}

/* It has no jobs, and knows hardly a command that we would ask. */
static void leave_sentinel(struct doctor *d)
{
	redis_close(d->at->redis);
	d->at->redis = NULL;
	d->at->info = NULL;
	d->unreachable = true;
}

void doctor_role(struct doctor *d)
{
	char mode[WORD_MAX];
	bool sentinel;

	info_word(d, "redis_mode", mode);
	if (!*mode)
		info_word(d, "server_mode", mode); /* of Valkey */
	sentinel = strcmp(mode, "sentinel") == 0;

	if (d->look.address.kind == REDIS_ALONE && (sentinel || strncmp(mode, "cluster", 7) == 0)) {
		d->at->stranger = true;
		found_other_kind(d, d->at->redis, &d->at->at, d->at->where);
		if (sentinel)
			leave_sentinel(d);
	} else if (info_is(d, "role", "master")) {
		found(d, FOUND_OK, "master");
	} else {
		tell_replica(d);
	}
}

/* --- The way to it. ----------------------------------------------------------------------------------------------- */

void doctor_tls(struct doctor *d)
{
	struct redis_tls_facts facts;
	int64_t left_s;
	char until[TIME_TEXT_MAX];

	if (!redis_tls_facts(d->at->redis, &facts))
		return;
	left_s = facts.until_s - clock_real_ms() / 1000;
	show_time(facts.until_s * 1000, until);
	if (facts.until_s == 0 || left_s >= CERTIFICATE_WARN_S) {
		found(d, FOUND_OK, "%s, %s; its certificate is valid until %s", facts.version, facts.cipher, until);
		return;
	}
	found(d, FOUND_WARN, "%s, %s; its certificate is valid until %s, %" PRId64 " days from now", facts.version,
	      facts.cipher, until, left_s / DAY_S);
	mend(d,
	     "openssl x509 -noout -enddate -in CERT    # on its host: a new one is needed, which CONFIG SET tls-cert-file makes it read");
}

/* --- What it keeps. ----------------------------------------------------------------------------------------------- */

static void tell_disk_error(struct doctor *d, const char *what)
{
	char dir[WORD_MAX], word[DOCTOR_TEXT_MAX];

	config_word(d, "dir", dir);
	found(d, FOUND_BAD, "%s failed the last time", what);
	mend(d, "df -h %s    # on its host; is there room, and may Redis write there? Its log says why",
	     shell_word(*dir ? dir : ".", word));
}

void doctor_persistence(struct doctor *d)
{
	char save[WORD_MAX], fsync[WORD_MAX];
	bool aof = info_int(d, "aof_enabled", 0) == 1, told = config_word(d, "save", save);

	config_word(d, "appendfsync", fsync);
	if (aof && strcmp(fsync, "no") == 0) {
		found(d, FOUND_WARN,
		      "append-only file, but appendfsync no: a crash of the machine may lose half a minute");
		mend_config(d, "appendfsync", "everysec");
	} else if (aof) {
		found(d, FOUND_OK, "append-only file%s%s", *fsync ? ", fsync " : "", fsync);
	} else if (told && !*save) {
		found(d, FOUND_BAD, "none: when Redis ends, all jobs and results are lost");
		mend_config(d, "appendonly", "yes");
	} else {
		found(d, FOUND_WARN,
		      "snapshots alone%s%s%s: a crash loses what came after the last, %" PRId64 " changes now",
		      told ? " (save " : "", save, told ? ")" : "", info_int(d, "rdb_changes_since_last_save", 0));
		mend_config(d, "appendonly", "yes");
	}
	if (aof && info_is(d, "aof_last_write_status", "err"))
		tell_disk_error(d, "writing the append-only file");
	if (aof && info_is(d, "aof_last_bgrewrite_status", "err"))
		tell_disk_error(d, "rewriting the append-only file");
	if (info_is(d, "rdb_last_bgsave_status", "err"))
		tell_disk_error(d, "saving a snapshot");
}

void doctor_eviction(struct doctor *d)
{
	char policy[WORD_MAX];
	int64_t max = info_int(d, "maxmemory", 0);

	info_word(d, "maxmemory_policy", policy);
	if (!*policy || strcmp(policy, "noeviction") == 0) {
		found(d, FOUND_OK, "%s", *policy ? policy : "it does not say");
		return;
	}
	found(d, max > 0 ? FOUND_BAD : FOUND_WARN, "maxmemory-policy %s: %s %s evicted", policy,
	      strncmp(policy, "volatile", 8) == 0 ? "results" : "jobs and results",
	      max > 0 ? "may be" : "would be, if there were a maxmemory,");
	mend_config(d, "maxmemory-policy", "noeviction");
}

static double mib(int64_t bytes)
{
	return (double)bytes / (1024.0 * 1024.0);
}

static void mend_memory(struct doctor *d, int64_t bytes)
{
	char value[32];

	snprintf(value, sizeof value, "%" PRId64, bytes);
	mend_config(d, "maxmemory", value);
}

void doctor_memory(struct doctor *d)
{
	int64_t used = info_int(d, "used_memory", 0), max = info_int(d, "maxmemory", 0),
		all = info_int(d, "total_system_memory", 0);

	if (max > 0 && used >= max / 100 * FULL_WARN) {
		found(d, used >= max / 100 * FULL_BAD ? FOUND_BAD : FOUND_WARN,
		      "%.1f MiB of %.1f MiB (maxmemory) are used; a full Redis takes no jobs", mib(used), mib(max));
		mend_memory(d, 2 * max > used ? 2 * max : 2 * used);
	} else if (all > 0 && max > all) {
		found(d, FOUND_WARN,
		      "maxmemory is %.1f MiB, its machine has %.1f MiB: the kernel would kill Redis first", mib(max),
		      mib(all));
		mend_memory(d, all / 100 * SYSTEM_WARN);
	} else if (all > 0 && max == 0 && used >= all / 100 * SYSTEM_WARN) {
		found(d, FOUND_WARN, "%.1f MiB of its machine's %.1f MiB are used, and there is no maxmemory",
		      mib(used), mib(all));
		mend_memory(d, all / 100 * SYSTEM_WARN + used / 10);
	} else {
		found(d, FOUND_OK, "%.1f MiB of %.1f MiB (%s)", mib(used), mib(max > 0 ? max : all),
		      max > 0 ? "maxmemory" : "its machine's");
	}
}

/* --- Those who are connected. ------------------------------------------------------------------------------------- */

void doctor_clients(struct doctor *d)
{
	int64_t now = info_int(d, "connected_clients", 0), max = info_int(d, "maxclients", 0),
		idle_s = config_int(d, "timeout");
	char value[32];

	if (max > 0 && now * 100 >= max * CLIENTS_WARN) {
		found(d, FOUND_WARN, "%" PRId64 " connections of %" PRId64 " (maxclients)", now, max);
		snprintf(value, sizeof value, "%" PRId64, 2 * max);
		mend_config(d, "maxclients", value);
	} else if (idle_s > 0) {
		found(d, FOUND_OK,
		      "%" PRId64 " of %" PRId64 "; idle ones are closed after %" PRId64 " s, and ours come back", now,
		      max, idle_s);
	} else {
		found(d, FOUND_OK, "%" PRId64 " of %" PRId64, now, max);
	}
}

void doctor_replicas(struct doctor *d)
{
	char value[WORD_MAX];
	bool told = config_word(d, "min-replicas-to-write", value);
	int64_t now = info_int(d, "connected_slaves", 0), wanted = strtoll(value, NULL, 10),
		good = info_int(d, "min_slaves_good_slaves", now);

	if (good < wanted) {
		found(d, FOUND_BAD,
		      "%" PRId64 " of the %" PRId64 " that must follow (min-replicas-to-write): it takes no jobs", good,
		      wanted);
		mend_config(d, "min-replicas-to-write", good > 0 ? "1" : "0");
	} else if (now == 0 && doctor_is_node(d)) {
		d->at->unfollowed = true; /* told of all such nodes at once */
	} else if (now == 0) {
		found(d, FOUND_OK, "none: what this Redis loses is lost");
	} else {
		found(d, FOUND_OK, "%" PRId64 "%s", now,
		      wanted || !told ? "" : "; none needs to have a write before it is acknowledged");
	}
}

/* --- Time. -------------------------------------------------------------------------------------------------------- */

static int by_value(const void *a, const void *b)
{
	int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;

	return (x > y) - (x < y);
}

static void tell_latency(struct doctor *d, size_t n, int64_t median_us, int64_t slowest_us)
{
	bool well = median_us < MEDIAN_WARN_US && slowest_us < WORST_WARN_US;

	found(d, well ? FOUND_OK : FOUND_WARN, "%zu trips: median %.2f ms, slowest %.2f ms%s", n,
	      (double)median_us / 1e3, (double)slowest_us / 1e3, well ? "" : "; each job takes several");
	if (!well)
		mend(d, "%s SLOWLOG GET 10    # what keeps it busy, or is it far away?", d->at->cli);
}

void doctor_latency(struct doctor *d)
{
	int64_t us[TRIPS], began_us = clock_mono_us();
	struct error err = {0};
	size_t n = 0;

	while (n < TRIPS && clock_mono_us() - began_us < TRIPS_MS * 1000) {
		int64_t sent_us = clock_mono_us();

		if (redis_call(d->at->redis, NULL, &err, "TIME")) {
			found_failed(d, "TIME", &err);
			return;
		}
		us[n++] = clock_mono_us() - sent_us;
	}
	qsort(us, n, sizeof *us, by_value);
	tell_latency(d, n, us[n / 2], us[n - 1]);
}

void doctor_clock(struct doctor *d)
{
	int64_t before = clock_real_ms(), now = 0, off;
	struct error err = {0};

	if (redis_now_ms(d->at->redis, &now, &err)) {
		found_failed(d, "TIME", &err);
		return;
	}
	off = now - before - (clock_real_ms() - before) / 2;
	if (llabs(off) < CLOCK_WARN_MS) {
		found(d, FOUND_OK, "%" PRId64 " ms from that of Redis", (int64_t)llabs(off));
		return;
	}
	found(d, llabs(off) < CLOCK_BAD_MS ? FOUND_WARN : FOUND_BAD,
	      "that of Redis is %.1f s %s of ours; not_before_ms and expires_at_ms go by it", (double)llabs(off) / 1e3,
	      off > 0 ? "ahead" : "behind");
	mend(d, "timedatectl set-ntp true    # on the machine whose clock is wrong");
}
