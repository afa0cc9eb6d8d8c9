/* SPDX-License-Identifier: MIT
 *
 * See look.h. */
#include "cli/look.h"

#include "base/buf.h"
#include "cli/out.h"
#include "cli/slots.h"
#include "queue/address.h"

#define NAMES_BYTES_MAX (QUEUES_MAX * (QUEUE_NAME_MAX + 2))
#define WHY_BYTES_MAX 4096
#define NO_KEY (-2) /* as PTTL says it */

void look_choose_queues(struct look *l, const struct cli *cli)
{
	const struct settings *s = cli->settings;

	if (cli->option[OPT_QUEUE]) {
		l->queues[l->nqueues++] = cli->option[OPT_QUEUE];
		return;
	}
	for (size_t i = 0; i < s->nqueues; i++)
		l->queues[l->nqueues++] = s->queues[i].name;
}

int look_open(struct look *l, const struct cli *cli, struct error *err)
{
	const struct settings *s = cli->settings;

	if (address_from_settings(&l->address, s, err))
		return error_prefix(err, "redis_url");
	return look_reconnect(l, err);
}

int look_connect(struct look *l, const struct cli *cli)
{
	struct error err = {0};

	if (look_open(l, cli, &err) == 0)
		return CLI_DONE;
	return err.code == ERR_CONFIG ? say_failure(&err) : look_failed(l, &err);
}

int look_reconnect(struct look *l, struct error *err)
{
	redis_close(l->redis);
	l->redis = redis_open_routed(&l->address, l->with_scripts, err);
	return l->redis ? 0 : -1;
}

static void name_place(const struct look *l, struct error *err)
{
	char where[256];

	redis_address_show(&l->address, where, sizeof where);
	error_prefix(err, "Redis at %s", where);
}

int look_failed(const struct look *l, struct error *err)
{
	name_place(l, err);
	return say_failure(err);
}

bool look_goes_on(const struct look *l, const struct error *err)
{
	return err->code == ERR_REFUSED || (err->code == ERR_LINK && redis_spreads(&l->address));
}

int look_failed_at(const struct look *l, const char *queue, struct error *err)
{
	error_prefix(err, "queue %s", queue);
	return look_failed(l, err);
}

int look_each(struct look *l, look_fn *look_at, void *ctx)
{
	for (size_t i = 0; i < l->nqueues; i++) {
		struct error err = {0};
		int one = look_at(ctx, l->queues[i], &err), rc;

		if (one > 0)
			break;
		if (one == 0)
			continue;
		rc = look_failed_at(l, l->queues[i], &err);
		if (!look_goes_on(l, &err))
			return rc;
		l->nsilent++;
	}
	return CLI_DONE;
}

void look_say_lost(const struct look *l, struct error *err)
{
	name_place(l, err);
	say("%s; trying again until it is back", err->msg);
}

void look_say_back(const struct look *l)
{
	struct error back = {.msg = "it is back"};

	name_place(l, &back);
	say("%s", back.msg);
}

void look_say_where(const struct look *l, const struct cli *cli)
{
	struct buf names = BUF_INIT(NAMES_BYTES_MAX);

	if (cli->option[OPT_QUEUE])
		return;
	for (size_t i = 0; i < l->nqueues; i++)
		buf_printf(&names, "%s%s", i ? ", " : "", l->queues[i]);
	say("  looked in %s; elsewhere with -q QUEUE, ADWUMA_QUEUES or --config FILE", buf_cstr(&names));
	buf_release(&names);
}

void look_hint_at_workers(const struct look *l, const char *prefix, const char *queue, const char *so)
{
	struct error err = {0};
	struct keys keys;
	int64_t workers;

	keys_init(&keys, prefix, queue);
	if (count_live_workers(l->redis, &keys, &workers, &err) == 0 && workers == 0)
		say("no worker serves a queue %s now; %s", queue, so);
}

/* Its value, where it is a string that we may read: people may have put anything there. */
static void read_why(const struct look *l, const struct keys *keys, struct buf *why)
{
	struct reply *reply = NULL;
	const char *text = NULL;
	size_t len = 0;

	if (redis_call(l->redis, &reply, NULL, "GETRANGE %s 0 1023", keys->paused) == 0)
		text = reply_bytes(reply, &len);
	if (text && len > 0) {
		buf_lit(why, ": ");
		clean_line(why, text, len);
	}
	reply_free(reply);
}

/* Nothing where Redis does not tell: a producer's user may not look. */
static void hint_at_pause(const struct look *l, const struct keys *keys, const char *queue)
{
	struct buf why = BUF_INIT(WHY_BYTES_MAX);
	struct reply *reply = NULL;

	if (redis_call(l->redis, &reply, NULL, "PTTL %s", keys->paused) == 0 && reply_int(reply, NO_KEY) != NO_KEY) {
		read_why(l, keys, &why);
		say("queue %s is paused%s (adwuma resume %s)", queue, buf_cstr(&why), queue);
	}
	reply_free(reply);
	buf_release(&why);
}

void look_hint_at_wait(const struct look *l, const char *prefix, const char *queue, const char *so)
{
	struct keys keys;

	keys_init(&keys, prefix, queue);
	look_hint_at_workers(l, prefix, queue, so);
	hint_at_pause(l, &keys, queue);
}

void look_close(struct look *l)
{
	redis_close(l->redis);
	redis_address_release(&l->address);
}
