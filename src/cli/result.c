/* SPDX-License-Identifier: MIT
 *
 * result: wait as long as is asked for, print what is there, and say of the rest where it is. Nothing in Redis is
 * changed. */
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/clock.h"
#include "cli/cli.h"
#include "cli/locate.h"
#include "cli/look.h"
#include "cli/out.h"
#include "cli/progress.h"
#include "cli/show.h"
#include "lib/client.h"

#define LINE_BYTES_MAX 4096

struct collection {
	const struct cli *cli;
	adwuma *client;
	struct look look;
	int64_t deadline;
	int rc; /* of all so far */
	size_t failed;
	struct sought *missing;
	size_t nmissing;
	bool *shown;
	bool unknown;		  /* some job is nowhere */
	bool blind;		  /* we may not look where they are */
	struct adwuma_error away; /* of a cluster: why no result came from all queues at the last wait */
};

/* Waits for one result until the deadline. Returns CLI_DONE and *json (owned, NULL: none came), or an exit code, told. Of several queues in a cluster
 * those that do not answer are told later, when it is known which they are. */
static int await(struct collection *c, const char *id, int64_t deadline, char **json)
{
	bool apart = c->look.nqueues > 1 && client_spreads(c->client);
	struct adwuma_error err = {0};

	c->away = err;
	if (client_wait(c->client, c->look.queues, c->look.nqueues, id, deadline - clock_mono_ms(), json, &err) == 0 ||
	    err.code == ADWUMA_TIMEOUT)
		return CLI_DONE;
	if (!apart || err.code != ADWUMA_UNREACHABLE)
		return say_error(&err);
	c->away = err;
	return CLI_DONE;
}

/* A failure weighs more than a result that may yet come. */
static void add_up(struct collection *c, int one)
{
	if (one == CLI_JOB_FAILED || c->rc == CLI_DONE)
		c->rc = one;
	c->failed += one == CLI_JOB_FAILED;
}

static void show_one(struct collection *c, size_t i, const char *json)
{
	bool whole = c->cli->option[OPT_JSON];

	add_up(c, result_show(c->cli->operands[i], json, whole ? SHOW_WHOLE : SHOW_TEXT, c->cli->noperands > 1));
	c->shown[i] = true;
}

/* Shows results in order as they come, up to the first that does not come in time; only waits for those behind it. */
static int show_first(struct collection *c)
{
	for (size_t i = 0; i < c->cli->noperands; i++) {
		char *json = NULL;
		int rc = await(c, c->cli->operands[i], c->deadline, &json);

		if (rc)
			return rc;
		if (!json)
			c->missing[c->nmissing++].id = c->cli->operands[i];
		else if (c->nmissing == 0)
			show_one(c, i, json);
		adwuma_free(json);
		progress_step(i + 1, c->failed);
	}
	return CLI_DONE;
}

/* Twice, since a job may move back behind the look (a retry, a worker that died). A producer's user may ask for results, and not look. */
static int locate_in(void *ctx, const char *queue, struct error *err)
{
	struct collection *c = ctx;
	const char *prefix = c->cli->settings->key_prefix;

	if (locate(c->look.redis, prefix, queue, c->missing, c->nmissing, err) == 0 &&
	    locate(c->look.redis, prefix, queue, c->missing, c->nmissing, err) == 0)
		return 0;
	c->blind = locate_forbidden(err);
	return c->blind ? 1 : -1;
}

static int locate_missing(struct collection *c)
{
	int rc = look_connect(&c->look, c->cli);

	return rc ? rc : look_each(&c->look, locate_in, c);
}

static void print_place(const struct sought *s)
{
	static const char *const states[] = {[PLACE_UNKNOWN] = "unknown",
					     [PLACE_WAITING] = "waiting",
					     [PLACE_DELAYED] = "delayed",
					     [PLACE_RUNNING] = "running",
					     [PLACE_DEAD] = "dead"};
	struct buf line = BUF_INIT(LINE_BYTES_MAX);

	buf_printf(&line, "{\"id\":\"%s\",\"queue\":", s->id);
	buf_json_cstr(&line, *s->queue ? s->queue : NULL);
	buf_printf(&line, ",\"state\":\"%s\",\"due_at_ms\":", states[s->place]);
	if (s->place == PLACE_DELAYED)
		buf_int(&line, s->due_at_ms);
	else
		buf_lit(&line, "null");
	buf_lit(&line, ",\"worker\":");
	buf_json_cstr(&line, *s->worker ? s->worker : NULL);
	buf_char(&line, '}');
	out_line(buf_cstr(&line), line.len);
	buf_release(&line);
}

static void say_place(struct collection *c, const struct sought *s)
{
	char due[TIME_TEXT_MAX];

	switch (s->place) {
	case PLACE_UNKNOWN:
		if (c->blind) {
			say("job %s: no result; where it is, this user may not look", s->id);
			break;
		}
		if (c->look.nsilent > 0) {
			say("job %s: neither a result nor the job is in the queues that answer", s->id);
			break;
		}
		c->unknown = true;
		say("job %s: unknown: no job and no result of that id in %s%s", s->id,
		    c->look.nqueues == 1 ? "queue " : "any of the queues",
		    c->look.nqueues == 1 ? c->look.queues[0] : "");
		break;
	case PLACE_WAITING:
		say("job %s: waiting in queue %s", s->id, s->queue);
		break;
	case PLACE_DELAYED:
		show_seconds(s->due_in_ms + 999, due);
		say("job %s: delayed in queue %s, due in %s", s->id, s->queue, due);
		break;
	case PLACE_RUNNING:
		say("job %s: running in queue %s on worker %s", s->id, s->queue, s->worker);
		break;
	case PLACE_DEAD:
		say("job %s: dead in queue %s: it failed, and its result has expired", s->id, s->queue);
		break;
	}
	if (c->cli->option[OPT_JSON])
		print_place(s);
	else if (c->cli->noperands > 1)
		out_line("", 0);
	add_up(c, s->place == PLACE_DEAD ? CLI_JOB_FAILED : CLI_TIMED_OUT);
}

/* The rest, in order: results that have come, and where the others are. */
static int show_rest(struct collection *c)
{
	const struct sought *next = c->missing;

	for (size_t i = 0; i < c->cli->noperands; i++) {
		const struct sought *missing = NULL;
		struct sought taken = {.id = c->cli->operands[i]}; /* it was there a moment ago: someone took it */
		char *json = NULL;
		int rc;

		if (c->shown[i])
			continue;
		if (next < c->missing + c->nmissing && next->id == c->cli->operands[i])
			missing = next++;
		rc = await(c, c->cli->operands[i], 0, &json);
		if (rc)
			return rc;
		if (c->away.code != ADWUMA_OK && c->look.nsilent == 0) {
			say_error(&c->away);
			c->look.nsilent++;
		}
		if (json)
			show_one(c, i, json);
		else
			say_place(c, missing ? missing : &taken);
		adwuma_free(json);
	}
	return CLI_DONE;
}

static int collect(struct collection *c)
{
	struct adwuma_error err = {0};
	int rc;

	c->missing = calloc(c->cli->noperands, sizeof *c->missing);
	c->shown = calloc(c->cli->noperands, sizeof *c->shown);
	if (!c->missing || !c->shown) {
		say("no memory for %zu results", c->cli->noperands);
		return CLI_JOB_FAILED;
	}
	c->client = client_open(c->cli->settings, &err);
	if (!c->client)
		return say_error(&err);
	progress_begin(c->cli->noperands, true);
	rc = show_first(c);
	progress_end();
	if (rc == CLI_DONE && c->nmissing > 0)
		rc = locate_missing(c);
	if (rc == CLI_DONE && c->nmissing > 0)
		rc = show_rest(c);
	if (rc == CLI_DONE && c->unknown)
		look_say_where(&c->look, c->cli);
	return rc ? rc : c->look.nsilent > 0 ? CLI_UNREACHABLE : c->rc;
}

int cli_result(const struct cli *cli)
{
	struct collection c = {.cli = cli};
	int64_t wait_ms = 0;
	int rc = cli_time_ms(cli, OPT_WAIT, 0, &wait_ms);

	if (rc == CLI_DONE)
		rc = cli_ids(cli);
	if (rc)
		return rc;
	c.deadline = clock_mono_ms() + wait_ms;
	look_choose_queues(&c.look, cli);
	rc = collect(&c);
	look_close(&c.look);
	adwuma_close(c.client);
	free(c.missing);
	free(c.shown);
	return rc;
}
