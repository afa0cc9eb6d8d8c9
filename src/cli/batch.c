/* SPDX-License-Identifier: MIT
 *
 * batch: many records in, a result for each out, however often it is stopped.
 *
 * What has been done is known from the output alone, so a run that was killed at any moment goes on where it ends, when the same command is
 * given again. Jobs without an id get one that follows from the record and its output: those of the first window, which an earlier run may
 * have submitted, are looked for before they are submitted. Memory is that of one window.
 *
 * A lost connection is waited out, wherever it is noticed: what is done with Redis may be done twice (ids see to that). */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/json.h"
#include "base/pick.h"
#include "cli/batch.h"
#include "cli/locate.h"
#include "cli/out.h"
#include "cli/progress.h"
#include "cli/show.h"
#include "lib/draft.h"
#include "queue/keys.h"

#define LOOK_AT_ONCE 500
#define RESULTS_BYTES (8UL * 1024 * 1024) /* of results that wait for others; beyond it only the first is asked for */
#define TRIP_JOBS 1000			  /* pushed in one round trip: their replies fit a socket's buffer */
#define TRIP_BYTES (1024UL * 1024)	  /* of them, beyond the first */
#define STALL_MS 300000
#define REDIS_AGAIN_US 250000
#define HINT_AFTER_MS 2000
#define TELL_EVERY_MS 30000

/* Options that some kinds do not take. */
#define OF_KINDS                                                                                                       \
	(TAKES(OPT_QUEUE) | TAKES(OPT_CSV) | TAKES(OPT_TEXT_COLUMN) | TAKES(OPT_OUT_COLUMN) | TAKES(OPT_DELIMITER) |   \
	 TAKES(OPT_PAIR) | TAKES(OPT_LANGUAGE) | TAKES(OPT_TIMESTAMPS) | TAKES(OPT_FORMAT))

static struct item *item_at(const struct batch *b, size_t i)
{
	return &b->items[(b->first + i) % BATCH_WINDOW_MAX];
}

static bool is_finished(const struct item *item)
{
	return item->settled || item->result.len > 0;
}

/* --- For kinds. --------------------------------------------------------------------------------------------------- */

void batch_make_id(const char *place, size_t number, const char *text, size_t len, char id[ADWUMA_ID_MAX + 1])
{
	char hash[SHA1_HEX_LEN + 1];
	struct buf whole = BUF_INIT(SIZE_MAX / 4);

	buf_printf(&whole, "%s\n%zu\n", place, number);
	buf_add(&whole, text, len);
	sha1_hex(buf_cstr(&whole), whole.len, hash);
	snprintf(id, ADWUMA_ID_MAX + 1, "batch-%s", hash);
	buf_release(&whole);
}

void batch_retry_id(const char *id, char again[ADWUMA_ID_MAX + 1])
{
	char hash[SHA1_HEX_LEN + 1];

	if (snprintf(again, ADWUMA_ID_MAX + 1, "%s.r", id) <= ADWUMA_ID_MAX)
		return;
	sha1_hex(id, strlen(id), hash); /* an end of its own for each try would not fit */
	snprintf(again, ADWUMA_ID_MAX + 1, "batch-%s", hash);
}

void batch_refuse(const struct batch *b, struct item *item, const char *type, const char *why, const char *what)
{
	struct buf *out = &item->result;

	buf_clear(out);
	buf_lit(out, "{\"id\":");
	buf_json_cstr(out, *item->id ? item->id : NULL);
	buf_printf(out,
		   ",\"status\":\"failed\",\"error\":{\"type\":\"%s\",\"message\":", type ? type : "InvalidJobError");
	buf_json_cstr(out, why);
	buf_lit(out, ",\"status_code\":0,\"code\":null,\"details\":[],\"activity_id\":null,\"retryable\":false,"
		     "\"service\":null}");
	if (b->kind->one)
		buf_printf(out, ",\"%s\":%zu", b->kind->one, item->number);
	if (what)
		buf_printf(out, ",\"result\":%s", what);
	buf_char(out, '}');
	buf_release(&item->job);
}

void batch_make_job(struct batch *b, struct item *item, const char *json, size_t len, const char *id)
{
	struct draft draft;
	struct error err = {0};

	item->job = BUF_INIT((size_t)b->cli->settings->max_job_bytes);
	if (draft_make(&draft, b->cli->option[OPT_QUEUE], json, len, id, &b->scratch, &err)) {
		batch_refuse(b, item, NULL, err.msg, NULL);
		return;
	}
	memcpy(item->id, draft.id, sizeof item->id);
	memcpy(item->queue, draft.queue, sizeof item->queue);
	buf_add(&item->job, draft.payload.ptr, draft.payload.len);
}

void batch_count(struct batch *b, const char *error)
{
	size_t i = 0;

	b->done++;
	if (!error)
		return;
	b->failed++;
	while (i < BATCH_KINDS_MAX - 1 && *b->kinds[i].name && strcmp(b->kinds[i].name, error) != 0)
		i++;
	if (!*b->kinds[i].name)
		snprintf(b->kinds[i].name, sizeof b->kinds[i].name, "%s", error);
	b->kinds[i].n++;
}

bool batch_succeeded(const char *json)
{
	struct result r;

	return result_read(&r, json) == 0 && result_succeeded(&r);
}

void batch_count_result(struct batch *b, const char *json)
{
	struct want want[] = {{"type", {0}}};
	struct result r;
	char type[64];

	if (result_read(&r, json) == 0 && result_succeeded(&r)) {
		batch_count(b, NULL);
		return;
	}
	if (!r.error.ptr || pick(r.error, want, 1) || !pick_text(want[0].value, type, sizeof type - 1))
		snprintf(type, sizeof type, "unreadable");
	batch_count(b, type);
}

/* --- Reading and submitting. -------------------------------------------------------------------------------------- */

/* Reads records into the window, as far as there is room. */
static int fill(struct batch *b, struct error *err)
{
	while (!b->at_end && b->n < b->kind->window && (b->n == 0 || b->held < b->kind->held_max)) {
		struct item *item = item_at(b, b->n);
		int rc;

		*item = (struct item){.number = b->read + 1,
				      .result = BUF_INIT(PICK_TEXT_MAX),
				      .record = BUF_INIT(PICK_TEXT_MAX)};
		rc = b->kind->next(b, item, err);
		if (rc < 0)
			return -1;
		b->at_end = rc == 0;
		if (b->at_end)
			break;
		if (item->job.failed || item->record.failed)
			return error_set(err, ERR_MEMORY, "no memory for the %s that wait", b->kind->unit);
		b->read++;
		b->n++;
		item->doubtful = item->doubtful || b->unsure_left > 0;
		b->unsure_left -= b->unsure_left > 0;
		b->unsent += item->job.len > 0;
		item->held += item->record.len + item->job.len;
		b->held += item->held;
	}
	return 0;
}

static void forget_job(struct batch *b, struct item *item)
{
	b->held -= item->job.len;
	item->held -= item->job.len;
	buf_release(&item->job);
}

/* Not by the library's submitting: that sends again what a lost connection leaves unsure, here it is looked for first. */
static int submit_these(struct batch *b, struct item *const *items, size_t n, struct error *err)
{
	struct keys keys;

	for (size_t done = 0, sent = 0; done < n;) {
		for (size_t bytes = 0; sent < n && sent - done < TRIP_JOBS && bytes < TRIP_BYTES; sent++) {
			const struct buf *job = &items[sent]->job;

			keys_init(&keys, b->cli->settings->key_prefix, items[sent]->queue);
			if (redis_appendf(b->look.redis, err, "LPUSH %s %b", keys.ready, job->ptr, job->len))
				return -1;
			bytes += job->len;
		}
		for (; done < sent; done++)
			if (redis_expect(b->look.redis, NULL, err))
				return -1;
	}
	return 0;
}

/* Which of them have been submitted already; only those that may have been are looked for. */
static int find_doubtful(struct batch *b, struct item *const *items, size_t n, bool *there, struct error *err)
{
	struct item *doubtful[BATCH_WINDOW_MAX] = {0};
	size_t ndoubtful = 0;

	for (size_t i = 0; i < n; i++) {
		if (!items[i]->doubtful && b->kind->doubt && b->kind->doubt(b, items[i], err))
			return -1;
		if (items[i]->doubtful)
			doubtful[ndoubtful++] = items[i];
	}
	/* A producer's user may put jobs there and not look at those of all: what this run begins it can do, what another began it cannot. */
	if (ndoubtful > 0 && batch_find(b, doubtful, ndoubtful, there, err) && !(b->fresh && locate_forbidden(err)))
		return -1;
	for (size_t i = n; i-- > 0;) /* from the end on, since there is in the order of those that are doubtful */
		there[i] = items[i]->doubtful && there[--ndoubtful];
	return 0;
}

/* Submits those of n that are not there yet, and whose kind has sent what they need. */
static int submit_new(struct batch *b, struct item *const *items, size_t n, bool *there, struct error *err)
{
	struct item *chosen[BATCH_WINDOW_MAX] = {0};
	size_t nchosen = 0;

	if (find_doubtful(b, items, n, there, err))
		return -1;
	for (size_t i = 0; i < n; i++) {
		if (!there[i] && b->kind->send && b->kind->send(b, items[i], err))
			return -1;
		if (!there[i] && !is_finished(items[i]))
			chosen[nchosen++] = items[i];
	}
	return submit_these(b, chosen, nchosen, err);
}

/* What was read; once more from the beginning where the connection broke. */
static int submit(struct batch *b, struct error *err)
{
	struct item *items[BATCH_WINDOW_MAX] = {0};
	bool *there = calloc(b->unsent, sizeof *there);
	size_t n = 0;
	int rc;

	for (size_t i = 0; i < b->n && n < b->unsent; i++)
		if (item_at(b, i)->job.len > 0)
			items[n++] = item_at(b, i);
	rc = there ? submit_new(b, items, n, there, err) : error_set(err, ERR_MEMORY, "no memory for %zu jobs", n);
	free(there);
	b->fresh = b->fresh && rc == 0;
	for (size_t i = 0; i < n; i++)
		if (rc)
			items[i]->doubtful = true; /* some may have been taken */
		else
			forget_job(b, items[i]);
	b->unsent = rc ? b->unsent : 0;
	return rc;
}

/* --- Collecting. -------------------------------------------------------------------------------------------------- */

static bool is_awaited(const struct item *item)
{
	return !is_finished(item) && item->job.len == 0;
}

static void take_result(struct batch *b, struct item *item, struct reply *reply)
{
	size_t len;
	const char *text = reply_bytes(reply, &len);

	if (text)
		buf_add(&item->result, text, len);
	item->came = item->result.len;
	b->result_bytes += item->came;
	reply_free(reply);
}

static void name_result(const struct batch *b, const struct item *item, char name[KEY_MAX])
{
	struct keys keys;

	keys_init(&keys, b->cli->settings->key_prefix, item->queue);
	key_result(&keys, item->id, name);
}

/* The results of the oldest records, as many as are there. Asks for fewer at once where they are large. */
static int collect(struct batch *b, struct error *err)
{
	size_t n = b->result_bytes > RESULTS_BYTES ? 1 : b->looks_at, before = b->result_bytes;
	char name[KEY_MAX];

	n = n < b->n ? n : b->n;
	for (size_t i = 0; i < n; i++) {
		if (!is_awaited(item_at(b, i)))
			continue;
		name_result(b, item_at(b, i), name);
		if (redis_appendf(b->look.redis, err, "LINDEX %s 0", name))
			return -1;
	}
	for (size_t i = 0; i < n; i++) {
		struct item *item = item_at(b, i);
		struct reply *reply = NULL;

		if (!is_awaited(item))
			continue;
		if (redis_expect(b->look.redis, &reply, err))
			return -1;
		take_result(b, item, reply);
	}
	if (b->result_bytes - before > RESULTS_BYTES / 2)
		b->looks_at = b->looks_at / 2 + 1;
	else if (b->looks_at < LOOK_AT_ONCE)
		b->looks_at++;
	return 0;
}

/* Until the oldest record's result is there, or a while has passed. */
static int wait_for_first(struct batch *b, struct error *err)
{
	struct item *item = item_at(b, 0);
	struct reply *reply = NULL;
	char name[KEY_MAX];

	name_result(b, item, name);
	/* Where others may go out before it, they are looked for again soon. */
	if (redis_call(b->look.redis, &reply, err, "BLMOVE %s %s LEFT LEFT %s", name, name,
		       b->kind->ordered ? "1" : "0.1"))
		return -1;
	take_result(b, item, reply);
	return 0;
}

static int put_one(struct batch *b, struct item *item, struct error *err)
{
	if (b->kind->put(b, item, err))
		return -1;
	if (item->settled)
		batch_count(b, NULL);
	else
		batch_count_result(b, buf_cstr(&item->result));
	b->held -= item->held;
	b->result_bytes -= item->came;
	return 0;
}

static void release_item(struct item *item)
{
	buf_release(&item->job);
	buf_release(&item->result);
	buf_release(&item->record);
}

/* Puts out what has ended: in order, or whatever has. */
static int put_out(struct batch *b, struct error *err)
{
	size_t done = b->done;

	for (size_t i = 0; i < b->n;) {
		struct item *item = item_at(b, i);

		if (!is_finished(item) && b->kind->ordered)
			break;
		if (!is_finished(item)) {
			i++;
			continue;
		}
		if (put_one(b, item, err))
			return -1;
		release_item(item);
		*item = *item_at(b, 0); /* takes its place */
		b->first = (b->first + 1) % BATCH_WINDOW_MAX;
		b->n--;
	}
	if (b->done > done)
		b->moved_ms = clock_mono_ms();
	return b->done > done && b->kind->flush ? b->kind->flush(b, err) : 0;
}

/* --- The course. -------------------------------------------------------------------------------------------------- */

static void tell(struct batch *b)
{
	int64_t now = clock_mono_ms();

	progress_step(b->done, b->failed);
	if ((b->of > 0 && isatty(STDERR_FILENO)) || now - b->told_ms < TELL_EVERY_MS)
		return;
	if (b->of > 0)
		say("%zu of %zu done, %zu failed", b->done, b->of, b->failed);
	else
		say("%zu done, %zu failed", b->done, b->failed);
	b->told_ms = now;
}

/* It is back once it does what it is asked: of several processes another than the lost one may answer at once. */
static void wait_for_redis(struct batch *b, bool *lost, struct error *err)
{
	if (!*lost) {
		progress_erase();
		look_say_lost(&b->look, err);
	}
	*lost = true;
	do
		usleep(REDIS_AGAIN_US);
	while (look_reconnect(&b->look, err));
	b->moved_ms = clock_mono_ms();
}

static void redis_is_back(struct batch *b, bool *lost)
{
	if (!*lost)
		return;
	progress_erase();
	look_say_back(&b->look);
	*lost = false;
}

/* One round: reads, submits, collects, waits, puts out. */
static int turn(struct batch *b, struct error *err)
{
	size_t low = b->kind->ordered ? b->kind->window / 2 : b->kind->window; /* many at once are cheaper */

	if (!b->at_end && b->n <= low && fill(b, err))
		return -1;
	if (b->unsent > 0 && submit(b, err))
		return -1;
	if (collect(b, err))
		return -1;
	if (b->n > 0 && is_awaited(item_at(b, 0)) && (b->kind->ordered || b->result_bytes == 0) &&
	    wait_for_first(b, err))
		return -1;
	return put_out(b, err);
}

/* Returns an exit code, told. */
static int look_at_stall(struct batch *b, int64_t stall_ms, bool *hinted)
{
	int64_t still_ms = clock_mono_ms() - b->moved_ms;
	const struct item *item = item_at(b, 0);

	if (b->n == 0)
		return CLI_DONE;
	if (!*hinted && still_ms > HINT_AFTER_MS) {
		progress_erase();
		look_hint_at_wait(&b->look, b->cli->settings->key_prefix, item->queue, "the batch waits for one");
		*hinted = true;
	}
	if (still_ms <= stall_ms)
		return CLI_DONE;
	progress_erase();
	say("no result for %g s; job %s is waited for: adwuma result --queue %s %s tells where it is; the same command goes on",
	    (double)stall_ms / 1000, item->id, item->queue, item->id);
	return CLI_TIMED_OUT;
}

/* Returns the exit code, told. */
static int run(struct batch *b, int64_t stall_ms)
{
	int rc = CLI_DONE;
	bool hinted = false, lost = false;

	b->moved_ms = b->told_ms = clock_mono_ms();
	while (rc == CLI_DONE && !(b->at_end && b->n == 0)) {
		struct error err = {0};

		if (turn(b, &err) == 0) {
			redis_is_back(b, &lost);
			tell(b);
			rc = look_at_stall(b, stall_ms, &hinted);
		} else if (err.code == ERR_LINK) {
			wait_for_redis(b, &lost, &err);
		} else {
			progress_erase();
			rc = say_failure(&err);
			b->blind = locate_forbidden(&err);
		}
	}
	return rc;
}

static void summarize(const struct batch *b)
{
	struct buf kinds = BUF_INIT(4096);

	for (size_t i = 0; i < BATCH_KINDS_MAX && *b->kinds[i].name; i++)
		buf_printf(&kinds, "%s%s %zu", i ? ", " : ": ", b->kinds[i].name, b->kinds[i].n);
	say("%zu done: %zu succeeded, %zu failed%s", b->done, b->done - b->failed, b->failed, buf_cstr(&kinds));
	if (b->failed > 0)
		say("  the same command with --retry-failed does those that failed once more");
	buf_release(&kinds);
}

static const struct batch_kind *kind_of(const struct cli *cli)
{
	struct stat st;

	if (cli->option[OPT_CSV])
		return &batch_csv;
	return stat(cli->operands[0], &st) == 0 && S_ISDIR(st.st_mode) ? &batch_folder : &batch_jsonl;
}

static int check_use(const struct cli *cli, const struct batch_kind *kind)
{
	if (!cli->option[OPT_INTO])
		return cli_misused(cli->command, "-o OUT is needed: where the results go");
	for (enum cli_option i = 0; i < CLI_OPTIONS; i++)
		if (cli->option[i] && OF_KINDS & TAKES(i) && !(kind->takes & TAKES(i)))
			return cli_misused(cli->command, "--%s is not for %s", cli_option_name(i), kind->unit);
	return CLI_DONE;
}

static void close_all(struct batch *b)
{
	for (size_t i = 0; i < b->n; i++)
		release_item(item_at(b, i));
	b->kind->close(b);
	free(b->items);
	buf_release(&b->scratch);
	look_close(&b->look);
}

static int run_all(struct batch *b, int64_t stall_ms)
{
	struct error err = {0};
	int rc = look_connect(&b->look, b->cli);

	if (rc == CLI_DONE) {
		b->of = b->kind->count(b);
		progress_begin(b->of, false);
		progress_resume(b->done);
		progress_step(b->done, b->failed);
		rc = run(b, stall_ms);
		progress_end();
	}
	if (rc == CLI_DONE && b->kind->end && b->kind->end(b, &err))
		rc = say_failure(&err);
	if (rc == CLI_DONE) {
		summarize(b);
		rc = b->failed > 0 ? CLI_JOB_FAILED : CLI_DONE;
	} else if (rc == CLI_UNREACHABLE) {
		say("  %zu %s are done; the same command goes on%s", b->done, b->kind->unit,
		    b->blind ? " as a user who may look for what was submitted before: adwuma-operator" : "");
	}
	return rc;
}

int cli_batch(const struct cli *cli)
{
	struct batch b = {.cli = cli,
			  .kind = kind_of(cli),
			  .retries = cli->option[OPT_RETRY_FAILED],
			  .looks_at = LOOK_AT_ONCE,
			  .scratch = BUF_INIT((size_t)cli->settings->max_job_bytes)};
	struct error err = {0};
	int64_t stall_ms;
	int rc = cli_time_ms(cli, OPT_STALL, STALL_MS, &stall_ms);

	if (rc == CLI_DONE)
		rc = check_use(cli, b.kind);
	if (rc)
		return rc;
	b.unsure_left = b.kind->window;
	b.items = calloc(BATCH_WINDOW_MAX, sizeof *b.items);
	if (!b.items || b.kind->open(&b, &err)) {
		say("batch: %s", b.items ? err.msg : "no memory");
		rc = CLI_USAGE;
	}
	if (rc == CLI_DONE)
		rc = run_all(&b, stall_ms);
	close_all(&b);
	return rc;
}
