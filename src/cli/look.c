/* SPDX-License-Identifier: MIT
 *
 * See look.h. */
#include "cli/look.h"

#include "base/buf.h"
#include "cli/out.h"

#define NAMES_BYTES_MAX (QUEUES_MAX * (QUEUE_NAME_MAX + 2))

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

int look_connect(struct look *l, const struct cli *cli)
{
	const struct settings *s = cli->settings;
	struct error err = {0};

	if (redis_address_parse(&l->address, s->redis_url, s->redis_username, s->redis_password, &err)) {
		error_prefix(&err, "redis_url");
		return say_failure(&err);
	}
	return look_reconnect(l, &err) ? look_failed(l, &err) : CLI_DONE;
}

int look_reconnect(struct look *l, struct error *err)
{
	redis_close(l->redis);
	l->redis = redis_open(&l->address, l->with_scripts, err);
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

void look_close(struct look *l)
{
	redis_close(l->redis);
	redis_address_release(&l->address);
}
