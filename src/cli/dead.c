/* SPDX-License-Identifier: MIT
 *
 * dead list, dead show: looking at failed jobs. What is printed of a job are the bytes that stand in Redis. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/buf.h"
#include "base/pick.h"
#include "base/utf8.h"
#include "cli/cli.h"
#include "cli/dead_entry.h"
#include "cli/dead_scan.h"
#include "cli/look.h"
#include "cli/out.h"
#include "cli/slots.h"
#include "cli/table.h"

#define MESSAGE_POINTS_TERMINAL 60
#define MESSAGE_POINTS 1000
#define ENTRY_BYTES_MAX (1UL << 31)

struct listing {
	struct redis *redis;
	const char *prefix;
	const char *queue;
	struct dead_filter filter;
	struct table table;
	struct buf text;
	size_t shown;
	/* Prints one entry. */
	void (*print)(struct listing *l, const struct dead_entry *e);
};

/* --- list. -------------------------------------------------------------------------------------------------------- */

static const char *or_dash(const char *s)
{
	return *s ? s : "-";
}

static void open_table(struct listing *l)
{
	static const char *const names[] = {"queue", "id", "type", "error", "status", "died", "message"};

	table_open(&l->table, 1U << 4);
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		table_column(&l->table, names[i]);
}

static void print_row(struct listing *l, const struct dead_entry *e)
{
	struct want message = {"message", {0}};
	struct buf snippet = BUF_INIT(PICK_TEXT_MAX);
	char died[TIME_TEXT_MAX];

	show_time(e->died_at_ms, died);
	if (e->error.ptr)
		(void)pick(e->error, &message, 1);
	pick_readable(message.value, &l->text);
	utf8_snippet(&snippet, buf_cstr(&l->text), l->text.len,
		     l->table.pretty ? MESSAGE_POINTS_TERMINAL : MESSAGE_POINTS);
	table_cellf(&l->table, "%s", l->queue);
	table_cellf(&l->table, "%s", or_dash(e->id));
	table_cellf(&l->table, "%s", or_dash(e->type));
	table_cellf(&l->table, "%s", e->readable ? or_dash(e->error_type) : "(no dead entry)");
	table_cellf(&l->table, "%" PRId64, e->status_code);
	table_cellf(&l->table, "%s", died);
	table_cell(&l->table, buf_cstr(&snippet), snippet.len);
	buf_release(&snippet);
}

/* --- show. -------------------------------------------------------------------------------------------------------- */

/* The entry with the name of its queue in front; one that has not the form of an entry becomes a string. */
static void print_json(struct listing *l, const struct dead_entry *e)
{
	const char *brace = memchr(e->whole.ptr, '{', e->whole.len);

	if (e->readable && brace) {
		out_printf("{\"queue\":\"%s\",", l->queue);
		out_json_line(brace + 1, (size_t)(e->whole.ptr + e->whole.len - brace - 1));
		return;
	}
	buf_clear(&l->text);
	buf_json_string(&l->text, e->whole.ptr, e->whole.len);
	out_printf("{\"queue\":\"%s\",\"entry\":%s}\n", l->queue, buf_cstr(&l->text));
}

static void print_line(struct listing *l, const char *label, const char *text, size_t n)
{
	if (n == 0)
		return;
	buf_clear(&l->text);
	clean_line(&l->text, text, n);
	out_printf("  %s: ", label);
	out_line(buf_cstr(&l->text), l->text.len);
}

static void print_member(struct listing *l, const char *label, struct span v)
{
	struct buf plain = BUF_INIT(PICK_TEXT_MAX);

	pick_readable(v, &plain);
	print_line(l, label, buf_cstr(&plain), plain.len);
	buf_release(&plain);
}

static void print_error(struct listing *l, const struct dead_entry *e)
{
	struct want want[] = {{"message", {0}},	    {"code", {0}},	{"details", {0}},
			      {"activity_id", {0}}, {"retryable", {0}}, {"service", {0}}};
	char status[DEAD_NAME_MAX + 40];

	if (!e->error.ptr || pick(e->error, want, 6))
		return;
	snprintf(status, sizeof status, "%s (%" PRId64 ")", or_dash(e->error_type), e->status_code);
	print_line(l, "error", status, strlen(status));
	for (size_t i = 0; i < 6; i++)
		if (strcmp(want[i].name, "details") != 0 || want[i].value.len > 2)
			print_member(l, want[i].name, want[i].value);
}

static void print_block(struct listing *l, const struct dead_entry *e)
{
	char died[TIME_TEXT_MAX];

	show_time(e->died_at_ms, died);
	out_printf("%s%s%s\n", l->shown ? "\n" : "", *e->id ? "job " : "a job without a usable id", e->id);
	print_line(l, "queue", l->queue, strlen(l->queue));
	print_line(l, "type", e->type, strlen(e->type));
	print_line(l, "died", died, strlen(died));
	print_error(l, e);
	if (e->readable)
		print_line(l, e->base64 ? "job in base64" : "job", e->job.ptr, e->job.len);
	else
		print_line(l, "entry", e->whole.ptr, e->whole.len);
}

/* --- Both. -------------------------------------------------------------------------------------------------------- */

static int look_at_page(void *ctx, const struct span *entries, size_t n, size_t *removed, struct error *err)
{
	struct listing *l = ctx;

	(void)removed;
	(void)err;
	for (size_t i = 0; i < n && l->filter.limit > 0; i++) {
		struct dead_entry e;

		dead_entry_read(&e, entries[i].ptr ? entries[i].ptr : "", entries[i].len, l->queue);
		if (!dead_filter_takes(&l->filter, &e))
			continue;
		l->print(l, &e);
		l->shown++;
		l->filter.limit--;
	}
	return l->filter.limit == 0;
}

static int look_at_queue(void *ctx, const char *queue, struct error *err)
{
	struct listing *l = ctx;
	struct keys keys;

	l->queue = queue;
	keys_init(&keys, l->prefix, queue);
	if (dead_scan(l->redis, &keys, false, look_at_page, l, err))
		return -1;
	return l->filter.limit == 0;
}

static int look_at_queues(struct listing *l, struct look *look, const struct cli *cli)
{
	struct error err = {0};
	int rc = look_connect(look, cli);

	l->redis = look->redis;
	if (rc == CLI_DONE && redis_now_ms(look->redis, &l->filter.now_ms, &err))
		rc = look_failed(look, &err);
	return rc ? rc : look_each(look, look_at_queue, l);
}

static int look_at_dead(const struct cli *cli, bool whole)
{
	struct listing l = {.prefix = cli->settings->key_prefix, .text = BUF_INIT(ENTRY_BYTES_MAX)};
	struct look look = {0};
	bool json = cli->option[OPT_JSON] != NULL, table = !json && !whole;
	int rc = dead_filter_init(&l.filter, cli, whole);

	if (rc)
		return rc;
	l.print = json ? print_json : whole ? print_block : print_row;
	look_choose_queues(&look, cli);
	if (table)
		open_table(&l);
	rc = look_at_queues(&l, &look, cli);
	if (table && rc == CLI_DONE)
		table_close(&l.table);
	if (rc == CLI_DONE && look.nsilent > 0)
		rc = CLI_UNREACHABLE;
	if (rc == CLI_DONE && l.filter.limit > 0)
		rc = dead_filter_say_unmet(&l.filter, &look, cli);
	if (table)
		buf_release(&l.table.cells);
	buf_release(&l.text);
	dead_filter_release(&l.filter);
	look_close(&look);
	return rc;
}

int cli_dead_list(const struct cli *cli)
{
	return look_at_dead(cli, false);
}

int cli_dead_show(const struct cli *cli)
{
	return look_at_dead(cli, true);
}
