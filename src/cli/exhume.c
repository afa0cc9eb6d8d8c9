/* SPDX-License-Identifier: MIT
 *
 * dead retry, dead purge: taking entries out of the list of dead jobs, oldest first, some dozens in one call of a script
 * (lua/exhume.lua). The script finds an entry by its bytes, so nothing is done twice, whoever else is at work; and
 * wherever we are stopped, each job is either still dead or ready again. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/digest.h"
#include "cli/cli.h"
#include "cli/dead_entry.h"
#include "cli/dead_scan.h"
#include "cli/look.h"
#include "cli/out.h"
#include "cli/slots.h"

#define BATCH_ENTRIES 64
#define BATCH_BYTES (1024 * 1024)
#define BATCH_WORK 1000000 /* comparisons: each entry of a batch is looked for among all */
#define UNFIT_TOLD_MAX 20
#define KEYS_OF_QUEUE 4
#define KEYS_OF_ENTRY 3

struct item {
	struct span entry; /* of the page's reply */
	size_t payload_at, payload_len;
	char id[ADWUMA_ID_MAX + 1];
	char keys[KEYS_OF_ENTRY][KEY_MAX];
};

struct exhumation {
	struct look *look;
	const char *prefix, *queue;
	struct keys keys;
	struct dead_filter filter;
	bool revive; /* else for good */
	struct item items[BATCH_ENTRIES];
	size_t n, most, bytes; /* of items */
	struct buf payloads;
	struct redis_args args;
	size_t done, gone, unfit;
	size_t removed; /* of the page at hand */
};

/* --- A batch. ----------------------------------------------------------------------------------------------------- */

/* Appends the job's object without that member; every other byte stays what it was. */
static void add_without(struct buf *out, struct span job, const char *name)
{
	size_t begin = out->len, end;

	if (!json_open_without(job.ptr, job.len, name, out)) {
		buf_cut(out, begin);
		buf_add(out, job.ptr, job.len);
		return;
	}
	end = out->len;
	while (end > begin && memchr(" \t\r\n", out->ptr[end - 1], 4))
		end--;
	if (end > begin && out->ptr[end - 1] == ',')
		buf_cut(out, end - 1);
	buf_char(out, '}');
}

static void find_expiry(void *ctx, struct span key, struct span value)
{
	if (json_key_is(key, "expires_at_ms"))
		*(struct span *)ctx = value;
}

/* The job as it was before its first try. A time to expire that has passed would end it at once: whoever puts it back wants it done. */
static void write_payload(struct exhumation *x, struct item *item, struct span job)
{
	static const char *const names[] = {"attempt", "billed", "expires_at_ms"};
	struct buf *out = &x->payloads;
	struct span expiry = {0};
	int64_t at_ms = INT64_MAX;
	bool expired;

	item->payload_at = out->len;
	json_scan(job.ptr, job.len, NULL, find_expiry, &expiry);
	expired = expiry.ptr && json_span_type(expiry) == JSON_NUMBER && json_span_int(expiry, &at_ms) &&
		  at_ms <= x->filter.now_ms;
	buf_add(out, job.ptr, job.len);
	for (size_t i = 0; i < (expired ? 3 : 2) && !out->failed; i++) {
		struct buf with = BUF_INIT(out->max);

		buf_add(&with, out->ptr + item->payload_at, out->len - item->payload_at);
		buf_cut(out, item->payload_at);
		add_without(out, (struct span){buf_cstr(&with), with.len}, names[i]);
		out->failed = out->failed || with.failed;
		buf_release(&with);
	}
	item->payload_len = out->failed ? 0 : out->len - item->payload_at;
}

static void write_item(struct exhumation *x, struct item *item, const struct dead_entry *e)
{
	char hash[SHA1_HEX_LEN + 1];

	*item = (struct item){.entry = e->whole};
	memcpy(item->id, e->id, sizeof item->id);
	if (!x->revive)
		return;
	write_payload(x, item, e->job);
	key_result(&x->keys, e->id, item->keys[0]);
	sha1_hex(e->job.ptr, e->job.len, hash);
	key_crashes(&x->keys, hash, item->keys[1]);
	sha1_hex(buf_cstr(&x->payloads) + (x->payloads.failed ? 0 : item->payload_at), item->payload_len, hash);
	key_crashes(&x->keys, hash, item->keys[2]);
}

static void write_command(struct exhumation *x)
{
	struct redis_args *args = &x->args;

	redis_args_script(args, x->look->redis, SCRIPT_EXHUME);
	redis_arg_int(args, KEYS_OF_QUEUE + (x->revive ? (int64_t)x->n * KEYS_OF_ENTRY : 0));
	redis_arg_str(args, x->keys.dead);
	redis_arg_str(args, x->keys.dead_bytes);
	redis_arg_str(args, x->keys.ready);
	redis_arg_str(args, x->keys.cancelled);
	for (size_t i = 0; x->revive && i < x->n; i++)
		for (size_t k = 0; k < KEYS_OF_ENTRY; k++)
			redis_arg_str(args, x->items[i].keys[k]);
	for (size_t i = 0; i < x->n; i++) {
		redis_arg(args, x->items[i].entry.ptr, x->items[i].entry.len);
		redis_arg(args, buf_cstr(&x->payloads) + x->items[i].payload_at, x->items[i].payload_len);
		redis_arg_str(args, x->items[i].id);
	}
}

static void tell(struct exhumation *x, const char *letters)
{
	for (size_t i = 0; i < x->n; i++) {
		const char *id = x->items[i].id;

		if (letters[i] == '1') {
			x->done++;
			if (x->revive)
				out_line(id, strlen(id));
		} else if (letters[i] == 's') {
			say("job %s has succeeded since: it is off the dead jobs of queue %s, and is not done again",
			    id, x->queue);
		} else {
			x->gone++;
			if (x->filter.nids > 0)
				say("job %s: somebody else has just taken it from the dead jobs of queue %s", id,
				    x->queue);
		}
	}
	out_flush();
}

static int flush(struct exhumation *x, struct error *err)
{
	struct reply *reply = NULL;
	const char *letters;
	size_t len = 0;
	int rc;

	if (x->n == 0)
		return 0;
	if (x->payloads.failed)
		return error_set(err, ERR_MEMORY, "no memory for %zu jobs", x->n);
	write_command(x);
	rc = redis_run(x->look->redis, &x->args, &reply, err);
	letters = reply_bytes(reply, &len);
	if (rc == 0 && letters && len == x->n)
		tell(x, letters);
	else if (rc == 0)
		rc = error_set(err, ERR_REFUSED, "the script exhume gave an answer of another shape");
	reply_free(reply);
	x->removed += x->n; /* those that were gone, too */
	x->n = x->bytes = 0;
	buf_clear(&x->payloads);
	return rc;
}

/* --- A page. ------------------------------------------------------------------------------------------------------ */

static void say_unfit(struct exhumation *x, const struct dead_entry *e)
{
	const char *why = !e->readable				? "it has not the form of a dead entry"
			: e->base64				? "its job is no UTF-8"
			: json_span_type(e->job) != JSON_OBJECT ? "its job is no JSON object"
								: "its job has no usable id";

	char died[TIME_TEXT_MAX];

	show_time(e->died_at_ms, died);
	x->unfit++;
	if (x->unfit <= UNFIT_TOLD_MAX)
		say("queue %s: the entry of %s stays dead: %s", x->queue, died, why);
	else if (x->unfit == UNFIT_TOLD_MAX + 1)
		say("more entries stay dead; adwuma dead list shows them");
}

static int take(struct exhumation *x, struct span entry, struct error *err)
{
	struct dead_entry e;

	dead_entry_read(&e, entry.ptr ? entry.ptr : "", entry.len, x->queue);
	if (!dead_filter_takes(&x->filter, &e))
		return 0;
	if (x->revive && !e.can_run) {
		say_unfit(x, &e);
		return 0;
	}
	if ((x->n == x->most || (x->n > 0 && x->bytes + entry.len > BATCH_BYTES)) && flush(x, err))
		return -1;
	write_item(x, &x->items[x->n++], &e);
	x->bytes += entry.len;
	x->filter.limit--;
	return 0;
}

static int take_page(void *ctx, const struct span *entries, size_t n, size_t *removed, struct error *err)
{
	struct exhumation *x = ctx;

	x->removed = 0;
	for (size_t i = 0; i < n && x->filter.limit > 0; i++)
		if (take(x, entries[i], err))
			return -1;
	if (flush(x, err))
		return -1;
	*removed = x->removed;
	return x->filter.limit == 0;
}

/* --- Queues. ------------------------------------------------------------------------------------------------------ */

/* In a long list an entry is found more slowly, so a call takes fewer: Redis serves nobody else meanwhile. */
static int set_pace(struct exhumation *x, struct error *err)
{
	struct reply *reply = NULL;
	int64_t jobs, fits;

	if (redis_call(x->look->redis, &reply, err, "LLEN %s", x->keys.dead))
		return -1;
	jobs = reply_int(reply, 0);
	fits = jobs > 0 ? BATCH_WORK / jobs : BATCH_ENTRIES;
	x->most = fits < 1 ? 1 : fits > BATCH_ENTRIES ? BATCH_ENTRIES : (size_t)fits;
	reply_free(reply);
	return 0;
}

static int take_queue(void *ctx, const char *queue, struct error *err)
{
	struct exhumation *x = ctx;

	x->queue = queue;
	keys_init(&x->keys, x->prefix, queue);
	if (set_pace(x, err) || dead_scan(x->look->redis, &x->keys, true, take_page, x, err))
		return -1;
	return x->filter.limit == 0;
}

static int take_queues(struct exhumation *x, const struct cli *cli)
{
	struct error err = {0};
	int rc = look_connect(x->look, cli);

	if (rc == CLI_DONE && redis_now_ms(x->look->redis, &x->filter.now_ms, &err))
		rc = look_failed(x->look, &err);
	if (rc == CLI_DONE)
		rc = look_each(x->look, take_queue, x);
	return rc == CLI_DONE && x->look->nsilent > 0 ? CLI_UNREACHABLE : rc;
}

static int exhume(const struct cli *cli, bool revive)
{
	struct look look = {.with_scripts = true};
	struct exhumation *x = calloc(1, sizeof *x);
	int rc;

	if (!x) {
		say("no memory");
		return CLI_JOB_FAILED;
	}
	x->look = &look;
	x->prefix = cli->settings->key_prefix;
	x->revive = revive;
	x->payloads = BUF_INIT(SIZE_MAX / 4);
	rc = dead_filter_init(&x->filter, cli, true);
	if (rc == CLI_DONE) {
		look_choose_queues(&look, cli);
		rc = take_queues(x, cli);
		if (rc == CLI_DONE && x->filter.limit > 0)
			rc = dead_filter_say_unmet(&x->filter, &look, cli);
		if (rc == CLI_DONE && (x->unfit > 0 || (x->gone > 0 && x->filter.nids > 0)))
			rc = CLI_JOB_FAILED;
		say("%zu dead job%s %s%s", x->done, x->done == 1 ? "" : "s",
		    revive ? x->done == 1 ? "is ready again" : "are ready again" : "deleted",
		    rc == CLI_UNREACHABLE ? ", as far as Redis told" : "");
	}
	dead_filter_release(&x->filter);
	redis_args_release(&x->args);
	buf_release(&x->payloads);
	free(x);
	look_close(&look);
	return rc;
}

int cli_dead_retry(const struct cli *cli)
{
	return exhume(cli, true);
}

int cli_dead_purge(const struct cli *cli)
{
	return exhume(cli, false);
}
