/* SPDX-License-Identifier: MIT
 *
 * cancel, pause, resume: words to the workers, left in Redis. */
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "cli/cli.h"
#include "cli/locate.h"
#include "cli/look.h"
#include "cli/out.h"
#include "cli/slots.h"
#include "lib/draft.h"

#define WHY_BYTES_MAX 4096
#define PAYLOAD_BYTES_MAX (1UL << 30)

/* --- cancel. ------------------------------------------------------------------------------------------------------ */

struct cancelling {
	const struct cli *cli;
	struct look look;
	struct sought *jobs;
	const char **ended; /* the queue in which a job has its result; NULL: in none */
	size_t n;
	int64_t now_ms;
	bool any;     /* some job was cancelled */
	bool unknown; /* some job is nowhere */
	bool blind;   /* we may not look where the jobs are */
	struct error why_blind;
};

/* Which jobs have their result in this queue. */
static int find_results(struct cancelling *c, const char *queue, struct error *err)
{
	struct error first = {0};
	struct keys keys;

	keys_init(&keys, c->cli->settings->key_prefix, queue);
	for (size_t i = 0; i < c->n; i++) {
		char name[KEY_MAX];

		key_result(&keys, c->jobs[i].id, name);
		if (redis_appendf(c->look.redis, err, "EXISTS %s", name))
			return -1;
	}
	for (size_t i = 0; i < c->n; i++) {
		struct reply *reply = NULL;

		if (redis_receive(c->look.redis, &reply, err))
			return -1;
		redis_note_error(c->look.redis, reply, &first);
		if (reply_int(reply, 0) > 0)
			c->ended[i] = queue;
		reply_free(reply);
	}
	if (first.code == ERR_NONE)
		return 0;
	*err = first;
	return -1;
}

/* Results last: a job that ends meanwhile is then found there. Twice, since a job may move back behind the look. A producer's user may not look; it
 * may cancel in a queue that is named. */
static int find_in(void *ctx, const char *queue, struct error *err)
{
	struct cancelling *c = ctx;

	for (int times = 0; times < 2 && !c->blind; times++) {
		if (locate(c->look.redis, c->cli->settings->key_prefix, queue, c->jobs, c->n, err) == 0)
			continue;
		c->blind = locate_forbidden(err);
		if (!c->blind)
			return -1;
		c->why_blind = *err;
	}
	if (c->blind && !c->cli->option[OPT_QUEUE])
		return 1;
	return find_results(c, queue, err);
}

static int write_down(const struct cancelling *c, const struct keys *keys, const char *id, struct error *err)
{
	return redis_call(c->look.redis, NULL, err, "ZADD %s %lld %s", keys->cancelled, (long long)c->now_ms, id);
}

/* Due at once, if it still waits there: then a worker takes it, sees that it is cancelled, and says so in its result. */
static int hasten(const struct cancelling *c, const struct keys *keys, const struct sought *job, struct error *err)
{
	return redis_call(c->look.redis, NULL, err, "ZADD %s XX 0 %b", keys->delayed, buf_cstr(&job->payload),
			  job->payload.len);
}

/* Returns the exit code, told; -1 with *err when Redis failed. */
static int cancel_one(struct cancelling *c, size_t i, struct error *err)
{
	static const char *const was[] = {[PLACE_UNKNOWN] = "not known yet",
					  [PLACE_WAITING] = "waiting",
					  [PLACE_DELAYED] = "delayed",
					  [PLACE_RUNNING] = "running"};
	const struct sought *job = &c->jobs[i];
	const char *queue = job->place == PLACE_UNKNOWN ? c->cli->option[OPT_QUEUE] : job->queue;
	struct keys keys;

	if (c->ended[i]) {
		say("job %s: it has its result already, in queue %s; nothing to cancel", job->id, c->ended[i]);
		return CLI_JOB_FAILED;
	}
	if (job->place == PLACE_DEAD) {
		say("job %s: dead in queue %s; nothing to cancel (adwuma dead purge %s deletes it)", job->id, queue,
		    job->id);
		return CLI_JOB_FAILED;
	}
	if (!queue) {
		c->unknown = true;
		say("job %s: unknown: no job of that id in any of the queues%s; with --queue it is cancelled in advance",
		    job->id, c->look.nsilent > 0 ? " that answer" : "");
		return CLI_JOB_FAILED;
	}
	keys_init(&keys, c->cli->settings->key_prefix, queue);
	if (write_down(c, &keys, job->id, err) || (job->place == PLACE_DELAYED && hasten(c, &keys, job, err)))
		return -1;
	c->any = true;
	say("job %s: cancelled in queue %s; %s%s", job->id, queue,
	    c->blind ? "where it was, this user may not look" : "it was ", c->blind ? "" : was[job->place]);
	return CLI_DONE;
}

static int find_jobs(struct cancelling *c)
{
	struct error err = {0};
	int rc = look_connect(&c->look, c->cli);

	if (rc == CLI_DONE)
		rc = look_each(&c->look, find_in, c);
	if (rc == CLI_DONE && c->blind && !c->cli->option[OPT_QUEUE]) {
		rc = look_failed(&c->look, &c->why_blind);
		say("  where the queue is named it may cancel without looking: adwuma cancel --queue QUEUE ID");
	}
	if (rc == CLI_DONE && c->look.nsilent == c->look.nqueues)
		rc = CLI_UNREACHABLE;
	if (rc == CLI_DONE && redis_now_ms(c->look.redis, &c->now_ms, &err))
		rc = look_failed(&c->look, &err);
	return rc;
}

static int cancel_all(struct cancelling *c)
{
	const char *queue = c->cli->option[OPT_QUEUE];
	struct error err = {0};
	int rc = find_jobs(c);

	if (rc)
		return rc;
	for (size_t i = 0; i < c->n && (rc == CLI_DONE || rc == CLI_JOB_FAILED); i++) {
		int one = cancel_one(c, i, &err);

		if (one < 0)
			rc = look_failed(&c->look, &err);
		else if (one)
			rc = one;
	}
	if (c->any && queue) /* one that was named can be misspelt */
		look_hint_at_workers(&c->look, c->cli->settings->key_prefix, queue, "it takes one to write results");
	if (c->unknown)
		look_say_where(&c->look, c->cli);
	return c->unknown && c->look.nsilent > 0 ? CLI_UNREACHABLE : rc;
}

int cli_cancel(const struct cli *cli)
{
	struct cancelling c = {.cli = cli, .n = cli->noperands};
	int rc = cli_ids(cli);

	if (rc)
		return rc;
	c.jobs = calloc(c.n, sizeof *c.jobs);
	c.ended = calloc(c.n, sizeof *c.ended);
	for (size_t i = 0; c.jobs && i < c.n; i++)
		c.jobs[i] = (struct sought){.id = cli->operands[i],
					    .keep_payload = true,
					    .payload = BUF_INIT(PAYLOAD_BYTES_MAX)};
	look_choose_queues(&c.look, cli);
	if (c.jobs && c.ended) {
		rc = cancel_all(&c);
	} else {
		say("no memory for %zu jobs", c.n);
		rc = CLI_JOB_FAILED;
	}
	for (size_t i = 0; c.jobs && i < c.n; i++)
		buf_release(&c.jobs[i].payload);
	free(c.jobs);
	free(c.ended);
	look_close(&c.look);
	return rc;
}

/* --- pause, resume. ----------------------------------------------------------------------------------------------- */

static int choose_named(struct look *look, const struct cli *cli)
{
	for (size_t i = 0; i < cli->noperands; i++) {
		const char *name = cli->operands[i];
		size_t known = 0;

		if (!draft_is_queue(name, strlen(name)))
			return cli_misused(cli->command, "'%s' is no queue name: 1 to %d characters of a-z 0-9 _ . -",
					   name, QUEUE_NAME_MAX);
		while (known < look->nqueues && strcmp(look->queues[known], name) != 0)
			known++;
		if (known == QUEUES_MAX)
			return cli_misused(cli->command, "more than %d queues", QUEUES_MAX);
		look->queues[known] = name;
		look->nqueues += known == look->nqueues;
	}
	return CLI_DONE;
}

static int at_each(struct look *look, const struct cli *cli, look_fn *act, void *ctx)
{
	int rc = look_connect(look, cli);

	if (rc == CLI_DONE)
		rc = look_each(look, act, ctx);
	return rc == CLI_DONE && look->nsilent > 0 ? CLI_UNREACHABLE : rc;
}

/* "maintenance (ama@host, 2026-11-25T03:47:11Z)" */
static void write_why(const struct cli *cli, struct buf *out)
{
	const struct passwd *user = getpwuid(getuid());
	const char *reason = cli->option[OPT_REASON];
	char host[256] = "", date[TIME_TEXT_MAX];

	gethostname(host, sizeof host - 1);
	show_time(clock_real_ms(), date);
	clean_line(out, reason ? reason : "paused", strlen(reason ? reason : "paused"));
	if (user)
		buf_printf(out, " (%s@%s, %s)", user->pw_name, host, date);
	else
		buf_printf(out, " (uid %lu@%s, %s)", (unsigned long)getuid(), host, date);
}

struct pausing { /* or the end of it, which needs no more than the first two */
	struct look look;
	const char *prefix;
	struct buf why;
	int64_t for_ms; /* 0: until it is resumed */
};

static int pause_queue(void *ctx, const char *queue, struct error *err)
{
	struct pausing *p = ctx;
	struct reply *before = NULL;
	struct keys keys;
	const char *old;
	char span[TIME_TEXT_MAX];
	int rc;

	keys_init(&keys, p->prefix, queue);
	if (p->for_ms > 0)
		rc = redis_call(p->look.redis, &before, err, "SET %s %b GET PX %lld", keys.paused, buf_cstr(&p->why),
				p->why.len, (long long)p->for_ms);
	else
		rc = redis_call(p->look.redis, &before, err, "SET %s %b GET", keys.paused, buf_cstr(&p->why),
				p->why.len);
	if (rc)
		return -1;
	old = reply_bytes(before, NULL);
	show_span(p->for_ms, span);
	say("queue %s: paused%s%s%s%s", queue, p->for_ms > 0 ? " for " : "", p->for_ms > 0 ? span : "",
	    old ? "; it was paused already: " : "", old ? old : "");
	reply_free(before);
	look_hint_at_workers(&p->look, p->prefix, queue, "it holds for those that come");
	return 0;
}

int cli_pause(const struct cli *cli)
{
	struct pausing p = {.prefix = cli->settings->key_prefix, .why = BUF_INIT(WHY_BYTES_MAX)};
	int rc = choose_named(&p.look, cli);

	if (rc == CLI_DONE)
		rc = cli_age_ms(cli, OPT_FOR, 0, &p.for_ms);
	if (rc == CLI_DONE && cli->option[OPT_FOR] && p.for_ms == 0)
		rc = cli_misused(cli->command, "--for 0 would pause nothing");
	write_why(cli, &p.why);
	if (rc == CLI_DONE && p.why.failed)
		rc = cli_misused(cli->command, "--reason: at most %d bytes", WHY_BYTES_MAX - 512);
	if (rc == CLI_DONE)
		rc = at_each(&p.look, cli, pause_queue, &p);
	buf_release(&p.why);
	look_close(&p.look);
	return rc;
}

static int resume_queue(void *ctx, const char *queue, struct error *err)
{
	struct pausing *p = ctx;
	struct reply *reply = NULL;
	struct keys keys;

	keys_init(&keys, p->prefix, queue);
	if (redis_call(p->look.redis, &reply, err, "DEL %s", keys.paused))
		return -1;
	if (reply_int(reply, 0) > 0)
		say("queue %s: goes on", queue);
	else
		say("queue %s: was not paused", queue);
	reply_free(reply);
	return 0;
}

int cli_resume(const struct cli *cli)
{
	struct pausing p = {.prefix = cli->settings->key_prefix};
	int rc = choose_named(&p.look, cli);

	if (rc == CLI_DONE)
		rc = at_each(&p.look, cli, resume_queue, &p);
	look_close(&p.look);
	return rc;
}
