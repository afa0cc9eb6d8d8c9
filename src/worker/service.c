/* SPDX-License-Identifier: MIT
 *
 * See service.h. */
#include "worker/service.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/log.h"
#include "exec/beneath.h"
#include "http/allow.h"
#include "pool/pool.h"
#include "queue/address.h"
#include "queue/turn.h"
#include "worker/admin.h"
#include "worker/context.h"
#include "worker/keepers.h"
#include "worker/line.h"
#include "worker/runner.h"
#include "worker/stock.h"

#define HOST_MAX 40
#define STOP_POLL_MS 20	  /* a stop is rare, and main has nothing else to do */
#define LAST_WORD_MS 5000 /* after running calls were cut off: for handing jobs back, and for what was answered */
#define HAND_BACK_MS 1000 /* then: for handing back what could not be written */

static int check_api_url(const struct settings *s, const char *url, struct error *err)
{
	struct http_target *t = http_target_new(url, NULL, false, err);

	(void)s;
	http_target_free(t);
	return t ? 0 : -1;
}

/* The system's bundle is not looked at: it may be away where no https is spoken. */
static int check_ca_file(const struct settings *s, const char *file, struct error *err)
{
	(void)s;
	return http_check_ca_file(file, err);
}

static int check_url_allow(const struct settings *s, const char *list, struct error *err)
{
	(void)s;
	return allow_check(list, err);
}

/* Better said at the start than by every job with a path. */
static int check_audio_root(const struct settings *s, const char *root, struct error *err)
{
	int fd = open_beneath(root, ".", O_PATH | O_DIRECTORY);

	(void)s;
	if (fd >= 0)
		return close(fd);
	if (errno == ENOSYS || errno == EPERM)
		return error_set(
			err, ERR_CONFIG,
			"openat2 is forbidden here, and without it no job can be kept within %s; under systemd the unit needs DynamicUser=no, "
			"User= and RestrictSUIDSGID=no",
			root);
	return error_set(err, ERR_CONFIG, "cannot open %s: %s", root, strerror(errno));
}

const struct settings_rule service_rules[] = {{"redis_url", address_check_url},
					      {"khaya_base_url", check_api_url},
					      {"taskingai_host", check_api_url},
					      {"api_ca_file", check_ca_file},
					      {"audio_url_allow", check_url_allow},
					      {"audio_root", check_audio_root},
					      {0}};

struct service {
	struct context ctx;
	struct api *api;
	struct stock *stock;
	struct keepers *keepers;
	struct crew *crew;
	struct pool *pool;
	struct line *lines[QUEUES_MAX];
	size_t nlines;
	struct admin_view view;
	struct admin *admin;
};

static void name_worker(struct context *ctx)
{
	char host[HOST_MAX + 1] = "", random[9];

	if (gethostname(host, sizeof host - 1))
		snprintf(host, sizeof host, "unknown");
	for (char *c = host; *c; c++)
		if (!isalnum((unsigned char)*c))
			*c = '-';
	random_hex(random, 8);
	snprintf(ctx->base_id, sizeof ctx->base_id, "%s-%ld-%s", host, (long)getpid(), random);
}

/* Tries what a line will do, on keys where nothing is: a user without the rights must stop the start, not the first job. A key of a
 * wrong type does not; its queue waits, and says so. */
static int try_rights(struct service *s, struct redis *r, const struct keys *keys, struct error *err)
{
	struct turn_request request = {.worker = s->ctx.base_id, .victim = ""};
	struct redis_args turn = {0};
	char slot[KEY_MAX];
	int rc;

	key_slot(keys, s->ctx.base_id, 0, slot);
	turn_write(&turn, r, keys, &request);
	rc = redis_run(r, &turn, NULL, err) || redis_call(r, NULL, err, "BLMOVE %s %s RIGHT LEFT 0.001", slot, slot)
		   ? -1
		   : 0;
	if (rc && err->code == ERR_REFUSED && !strstr(err->msg, "NOPERM") && !strstr(err->msg, "MOVED "))
		rc = 0;
	redis_args_release(&turn);
	return rc;
}

/* Each queue's, over a connection that serves it. */
static int try_queues(struct service *s, struct error *err)
{
	const struct settings *settings = s->ctx.settings;
	struct redis *r = NULL;
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < settings->nqueues; i++) {
		struct keys keys;

		keys_init(&keys, settings->key_prefix, settings->queues[i].name);
		if (r && redis_spreads(&s->ctx.address)) {
			redis_close(r);
			r = NULL;
		}
		if (!r)
			r = redis_open(&s->ctx.address, keys.ready, true, err);
		rc = r ? try_rights(s, r, &keys, err) : -1;
	}
	redis_close(r);
	return rc;
}

/* The first connection is main's: only here a Redis that does not want us is told from one that is away. */
static int wait_for_redis(struct service *s, bool (*stop_asked)(void), struct error *err)
{
	char where[256];
	bool told = false;
	int64_t began_ms = clock_mono_ms();

	redis_address_show(&s->ctx.address, where, sizeof where);
	for (unsigned tries = 1; !stop_asked(); tries++) {
		if (try_queues(s, err) == 0) {
			s->ctx.waited_for_redis_ms = clock_mono_ms() - began_ms;
			if (told)
				health_back(&s->ctx.health, where);
			return 0;
		}
		if (err->code == ERR_REFUSED)
			return error_prefix(err, "redis at %s", where);
		if (!told)
			health_lost(&s->ctx.health, where, err->msg, INT64_MAX);
		told = true;
		for (int64_t left = health_backoff_ms(tries); left > 0 && !stop_asked(); left -= STOP_POLL_MS)
			clock_nap(STOP_POLL_MS);
	}
	return error_set(err, ERR_LINK, "stopped while waiting for redis at %s", where);
}

static void wake_line(void *service, size_t queue)
{
	struct service *s = service;

	line_wake(s->lines[queue]);
}

/* All parts but their threads; only the admin listener runs already, so that liveness can be asked for while Redis is waited for. */
static int build(struct service *s, struct error *err)
{
	const struct settings *settings = s->ctx.settings;

	s->stock = stock_new(settings, wake_line, s, err);
	s->keepers = s->stock ? keepers_new(&s->ctx, err) : NULL;
	s->crew = s->keepers ? crew_new(&s->ctx, s->stock, err) : NULL;
	if (!s->crew)
		return -1;
	for (size_t i = 0; i < settings->nqueues; i++, s->nlines++) {
		s->lines[i] = line_new(&s->ctx, s->stock, i, keepers_listener(s->keepers, i), err);
		if (!s->lines[i])
			return -1;
	}
	/* Before the others: an address in use stops the start while there is nothing to end. */
	s->view = (struct admin_view){&s->ctx, s->stock, s->keepers, s->lines, s->nlines};
	s->admin = admin_start(&s->view, err);
	return err->code != ERR_NONE ? -1 : 0;
}

static int run(struct service *s, struct error *err)
{
	static const struct pool_crew crew = {.name = "call", .run = crew_run};

	if (pool_new(&s->pool, &crew, s->crew, (unsigned)s->ctx.settings->threads, crew_close, err))
		return -1;
	for (size_t i = 0; i < s->nlines; i++)
		if (line_start(s->lines[i], err))
			return -1;
	return keepers_start(s->keepers, s->lines, s->nlines, err);
}

struct service *service_start(const struct settings *settings, bool (*stop_asked)(void), struct error *err)
{
	struct service *s = calloc(1, sizeof *s);

	if (!s) {
		error_set(err, ERR_MEMORY, "out of memory");
		return NULL;
	}
	s->ctx.settings = settings;
	s->ctx.started_at_ms = clock_real_ms();
	health_init(&s->ctx.health);
	s->ctx.metrics = metrics_new(settings, err);
	if (!s->ctx.metrics)
		goto fail;
	name_worker(&s->ctx);
	if (address_from_settings(&s->ctx.address, settings, err))
		goto fail;
	s->ctx.http = http_shared_new(settings->api_ca_file, err);
	s->api = s->ctx.http ? api_new(settings, err) : NULL;
	s->ctx.api = s->api;
	if (!s->api || build(s, err) || wait_for_redis(s, stop_asked, err) || run(s, err))
		goto fail;
	log_event(LOG_INFO, "started", "version", ADWUMA_VERSION, "worker", s->ctx.base_id, "threads",
		  log_int(settings->threads), "queues", log_int((long long)s->nlines), NULL);
	return s;
fail:
	service_free(s);
	return NULL;
}

bool service_alive(const struct service *s)
{
	return admin_alive(&s->view);
}

static void move_on(struct service *s, enum phase phase)
{
	s->ctx.phase = phase;
	for (size_t i = 0; i < s->nlines; i++)
		line_wake(s->lines[i]);
}

void service_quiet(struct service *s, bool quiet)
{
	log_event(LOG_INFO, quiet ? "taking no more jobs" : "taking jobs again", NULL);
	move_on(s, quiet ? PHASE_QUIET : PHASE_RUN);
}

static size_t count_busy(struct service *s)
{
	size_t n = 0;

	for (size_t i = 0; i < s->nlines; i++)
		n += line_busy(s->lines[i]);
	return n;
}

static bool all_ended(const struct service *s)
{
	for (size_t i = 0; i < s->nlines; i++)
		if (!line_ended(s->lines[i]))
			return false;
	return true;
}

static bool end_within(const struct service *s, int64_t ms)
{
	int64_t until = clock_mono_ms() + ms;

	while (!all_ended(s) && clock_mono_ms() < until)
		clock_nap(STOP_POLL_MS);
	return all_ended(s);
}

/* Lines end by themselves once their jobs are settled; only Redis can keep them from it. */
static void wait_for_lines(struct service *s)
{
	if (end_within(s, LAST_WORD_MS))
		return;
	move_on(s, PHASE_LET_GO);
	if (!end_within(s, HAND_BACK_MS))
		move_on(s, PHASE_GIVE_UP);
}

bool service_stop(struct service *s, bool (*hurry)(void))
{
	int64_t drain_until = clock_mono_ms() + s->ctx.settings->drain_timeout_s * 1000;
	bool clean = true;

	log_event(LOG_INFO, "stopping", "jobs", log_int((long long)count_busy(s)), NULL);
	move_on(s, PHASE_DRAIN);
	while (count_busy(s) > 0 && clock_mono_ms() < drain_until && !hurry())
		clock_nap(STOP_POLL_MS);
	if (count_busy(s) > 0) {
		log_event(LOG_WARN, "handing running jobs back", "jobs", log_int((long long)count_busy(s)), NULL);
		move_on(s, PHASE_ABORT);
		crew_abort(s->crew);
	}
	wait_for_lines(s);
	for (size_t i = 0; i < s->nlines; i++)
		clean = line_join(s->lines[i]) && clean;
	admin_stop(s->admin);
	s->admin = NULL;
	keepers_stop(s->keepers);
	stock_close(s->stock);
	pool_join(s->pool);
	log_event(clean ? LOG_INFO : LOG_ERROR, "stopped", "redis",
		  clean ? "told" : "could not be reached: jobs wait in their slots for another worker", NULL);
	return clean;
}

void service_log(struct service *s)
{
	for (size_t i = 0; i < s->nlines; i++) {
		size_t waiting, running;

		stock_counts(s->stock, i, &waiting, &running);
		log_event(LOG_INFO, "queue", "queue", line_queue(s->lines[i]), "running", log_int((long long)running),
			  "waiting", log_int((long long)waiting), "unsettled", log_int(line_busy(s->lines[i])), NULL);
	}
	crew_log(s->crew);
}

void service_free(struct service *s)
{
	if (!s)
		return;
	admin_stop(s->admin);
	/* After a stop all threads have ended; after a start that failed half-way some run. */
	move_on(s, PHASE_GIVE_UP);
	for (size_t i = 0; i < s->nlines; i++)
		line_join(s->lines[i]);
	if (s->pool)
		stock_close(s->stock);
	pool_join(s->pool);
	pool_free(s->pool);
	keepers_free(s->keepers);
	crew_free(s->crew);
	for (size_t i = 0; i < s->nlines; i++)
		line_free(s->lines[i]);
	stock_free(s->stock);
	api_free(s->api);
	http_shared_free(s->ctx.http);
	metrics_free(s->ctx.metrics);
	redis_address_release(&s->ctx.address);
	free(s);
}
