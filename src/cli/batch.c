/* SPDX-License-Identifier: MIT
 *
 * batch: a file of jobs into a file of results, line for line.
 *
 * What has been done is known from the output alone: it has as many whole lines as input lines are done. So a run that was killed at any moment
 * goes on where it ends, when the same command is given again. Jobs without an id get one that follows from output, line and text: the jobs of the
 * first window, which an earlier run may have submitted, are looked for before they are submitted. Memory is that of one window of lines.
 *
 * With --retry-failed the lines of an output that failed are done once more, under new ids, into OUT.new, which takes OUT's place at the end. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/json.h"
#include "base/pick.h"
#include "cli/cli.h"
#include "cli/input.h"
#include "cli/locate.h"
#include "cli/look.h"
#include "cli/out.h"
#include "cli/progress.h"
#include "cli/show.h"
#include "lib/client.h"
#include "lib/draft.h"

#define WINDOW 2000			      /* jobs in flight; an earlier run's were no more */
#define READ_AHEAD_BYTES (64UL * 1024 * 1024) /* of lines that wait to be submitted */
#define LOOK_AT_ONCE 500
#define STALL_MS 300000
#define STEP_MS 1000
#define TELL_EVERY_MS 30000
#define KINDS_MAX 16
#define PATH_BYTES 4096

/* A line of the input that is not in the output yet. */
struct item {
	char id[ADWUMA_ID_MAX + 1];
	char queue[QUEUE_NAME_MAX + 1];
	struct buf ready; /* what its line of the output is, where that is known already */
};

struct batch {
	const struct cli *cli;
	adwuma *client;
	struct look look;
	struct lines in, old; /* old: with --retry-failed, the output that is gone over */
	bool retries, at_end;
	char path[PATH_BYTES], into[PATH_BYTES + 8]; /* OUT, and what is written to */
	int out;
	size_t read, done, of, failed; /* lines */
	struct item *items;	       /* a ring, from `done` on */
	size_t first, n;
	bool unsure; /* what is read may have been submitted by an earlier run */
	size_t unsure_left;
	struct {
		char name[64];
		size_t n;
	} kinds[KINDS_MAX];
	int64_t told_ms, moved_ms;
	struct buf scratch, lines_out;
};

static struct item *item_at(struct batch *b, size_t i)
{
	return &b->items[(b->first + i) % WINDOW];
}

/* --- The output. -------------------------------------------------------------------------------------------------- */

static void count_kind(struct batch *b, const char *name)
{
	size_t i = 0;

	while (i < KINDS_MAX - 1 && *b->kinds[i].name && strcmp(b->kinds[i].name, name) != 0)
		i++;
	if (!*b->kinds[i].name)
		snprintf(b->kinds[i].name, sizeof b->kinds[i].name, "%s", name);
	b->kinds[i].n++;
}

static void count_line(struct batch *b, const char *line)
{
	struct want want[] = {{"type", {0}}};
	struct result r;
	char type[64];

	b->done++;
	if (result_read(&r, line) == 0 && result_succeeded(&r))
		return;
	b->failed++;
	if (!r.error.ptr || pick(r.error, want, 1) || !pick_text(want[0].value, type, sizeof type - 1))
		snprintf(type, sizeof type, "unreadable");
	count_kind(b, type);
}

/* What stands in it already; half a line at its end is cut off. */
static int go_over_output(struct batch *b, struct error *err)
{
	struct lines lines;
	const char *line;
	size_t len;
	struct stat st;
	off_t whole = 0;
	struct buf text = BUF_INIT(PICK_TEXT_MAX);
	enum line_state state;
	char last = '\n';

	if (fstat(b->out, &st) != 0)
		return error_set(err, ERR_SYSTEM, "%s: %s", b->into, strerror(errno));
	if (st.st_size > 0 && pread(b->out, &last, 1, st.st_size - 1) != 1)
		return error_set(err, ERR_SYSTEM, "%s: %s", b->into, strerror(errno));
	if (lines_open(&lines, b->into, PICK_TEXT_MAX / 2, err))
		return -1;
	while ((state = lines_next(&lines, &line, &len, err)) != LINE_END && state != LINE_FAILED) {
		if (state == LINE_PAUSE)
			continue;
		if (whole + (off_t)len + 1 > st.st_size && last != '\n')
			break; /* the half one */
		whole += (off_t)len + 1;
		buf_clear(&text);
		buf_add(&text, line, len);
		count_line(b, buf_cstr(&text));
	}
	lines_close(&lines);
	buf_release(&text);
	if (state == LINE_FAILED)
		return -1;
	if (whole < st.st_size && ftruncate(b->out, whole) != 0)
		return error_set(err, ERR_SYSTEM, "%s: %s", b->into, strerror(errno));
	if (lseek(b->out, 0, SEEK_END) < 0)
		return error_set(err, ERR_SYSTEM, "%s: %s", b->into, strerror(errno));
	return 0;
}

static int open_output(struct batch *b, struct error *err)
{
	b->out = open(b->into, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	if (b->out < 0)
		return error_set(err, ERR_USAGE, "%s cannot be written: %s", b->into, strerror(errno));
	if (flock(b->out, LOCK_EX | LOCK_NB) != 0)
		return error_set(err, ERR_USAGE, "%s is being written by another batch", b->into);
	return go_over_output(b, err);
}

static int write_all(const struct batch *b, const char *bytes, size_t n, struct error *err)
{
	while (n > 0) {
		ssize_t wrote = write(b->out, bytes, n);

		if (wrote < 0 && errno == EINTR)
			continue;
		if (wrote < 0)
			return error_set(err, ERR_SYSTEM, "%s cannot be written: %s", b->into, strerror(errno));
		bytes += wrote;
		n -= (size_t)wrote;
	}
	return 0;
}

/* --- The input. --------------------------------------------------------------------------------------------------- */

/* The next line that is not blank: 1, 0 at the end, or -1. A line that is too long is *line NULL. */
static int next_line(struct lines *l, const char **line, size_t *len, struct error *err)
{
	for (;;) {
		switch (lines_next(l, line, len, err)) {
		case LINE_IS:
			if (strspn(*line, " \t") < *len && *len > 0)
				return 1;
			break;
		case LINE_TOO_LONG:
			*line = NULL;
			return 1;
		case LINE_PAUSE:
			break;
		case LINE_END:
			return 0;
		case LINE_FAILED:
			return -1;
		}
	}
}

/* The line of the output for what is no job. */
static void refuse_line(struct item *item, size_t number, const char *why)
{
	buf_printf(&item->ready,
		   "{\"id\":null,\"status\":\"failed\",\"error\":{\"type\":\"InvalidJobError\",\"message\":");
	buf_json_cstr(&item->ready, why);
	buf_printf(
		&item->ready,
		",\"status_code\":0,\"code\":null,\"details\":[],\"activity_id\":null,\"retryable\":false,\"service\":null},\"line\":%zu}",
		number);
}

/* An id that is the same whenever this line of this batch is read. */
static void make_id(const struct batch *b, const char *line, size_t len, char id[ADWUMA_ID_MAX + 1])
{
	char head[PATH_BYTES + 64], hash[SHA1_HEX_LEN + 1];
	struct buf text = BUF_INIT(SIZE_MAX / 4);

	snprintf(head, sizeof head, "%s\n%zu\n", b->path, b->read);
	buf_str_add(&text, head);
	buf_add(&text, line, len);
	sha1_hex(buf_cstr(&text), text.len, hash);
	snprintf(id, ADWUMA_ID_MAX + 1, "batch-%s", hash);
	buf_release(&text);
}

/* With --retry-failed: the old line, where it succeeded; else the id of a new try: 1. 0: the old output has no such line. */
static int go_over_old(struct batch *b, struct item *item, char id[ADWUMA_ID_MAX + 1], bool *again, struct error *err)
{
	struct want want[] = {{"id", {0}}};
	struct buf text = BUF_INIT(PICK_TEXT_MAX);
	struct result r;
	const char *line;
	size_t len;
	int rc = next_line(&b->old, &line, &len, err);

	*again = true;
	if (rc > 0 && line) {
		buf_add(&text, line, len);
		if (result_read(&r, buf_cstr(&text)) == 0 && result_succeeded(&r)) {
			buf_add(&item->ready, line, len);
			*again = false;
		} else if (pick((struct span){line, len}, want, 1) == 0 &&
			   pick_text(want[0].value, id, ADWUMA_ID_MAX - 2)) {
			strcat(id, ".r");
		}
	}
	buf_release(&text);
	return rc;
}

/* A job's payload goes behind the others that wait to be submitted. */
struct waiting {
	struct adwuma_job jobs[WINDOW];
	struct item *items[WINDOW];
	size_t at[WINDOW], n;
	struct buf text;
};

static void make_job(struct batch *b, struct waiting *w, struct item *item, const char *line, size_t len,
		     const char *retry_id)
{
	struct draft draft;
	struct error err = {0};
	char id[ADWUMA_ID_MAX + 1];
	struct buf bare = BUF_INIT(SIZE_MAX / 4);

	make_id(b, line, len, id);
	if (*retry_id) { /* under an id of its own: the old result stays what it was */
		json_open_without(line, len, "id", &bare);
		while (bare.len > 0 && memchr(" \t,", bare.ptr[bare.len - 1], 3))
			buf_cut(&bare, bare.len - 1);
		buf_char(&bare, '}');
		line = buf_cstr(&bare);
		len = bare.len;
	}
	if (draft_make(&draft, b->cli->option[OPT_QUEUE], line, len, *retry_id ? retry_id : id, &b->scratch, &err)) {
		refuse_line(item, b->read, err.msg);
	} else {
		memcpy(item->id, draft.id, sizeof item->id);
		memcpy(item->queue, draft.queue, sizeof item->queue);
		w->items[w->n] = item;
		w->at[w->n] = w->text.len;
		buf_add(&w->text, draft.payload.ptr, draft.payload.len);
		w->jobs[w->n++] = (struct adwuma_job){.queue = item->queue, .len = draft.payload.len};
	}
	buf_release(&bare);
}

/* Reads lines into the window, as far as there is room. */
static int read_some(struct batch *b, struct waiting *w, struct error *err)
{
	while (!b->at_end && b->n < WINDOW && w->text.len < READ_AHEAD_BYTES) {
		struct item *item = item_at(b, b->n);
		char retry_id[ADWUMA_ID_MAX + 1] = "";
		bool again = true;
		const char *line;
		size_t len;
		int rc = next_line(&b->in, &line, &len, err);

		if (rc < 0)
			return -1;
		b->at_end = rc == 0;
		if (b->at_end)
			break;
		b->read++;
		b->n++;
		*item = (struct item){.ready = BUF_INIT(PICK_TEXT_MAX)};
		if (b->retries && go_over_old(b, item, retry_id, &again, err) < 0)
			return -1;
		if (!again)
			continue;
		if (line)
			make_job(b, w, item, line, len, retry_id);
		else
			refuse_line(item, b->read, "the line is longer than max_job_bytes");
	}
	return w->text.failed ? error_set(err, ERR_MEMORY, "no memory for the lines that wait") : 0;
}

/* --- What an earlier run has submitted. ---------------------------------------------------------------------------- */

static int has_results(struct batch *b, const struct waiting *w, bool *there, struct error *err)
{
	struct keys keys;
	char name[KEY_MAX];

	for (size_t i = 0; i < w->n; i++) {
		keys_init(&keys, b->cli->settings->key_prefix, w->items[i]->queue);
		key_result(&keys, w->items[i]->id, name);
		if (redis_appendf(b->look.redis, err, "EXISTS %s", name))
			return -1;
	}
	for (size_t i = 0; i < w->n; i++) {
		struct reply *reply = NULL;

		if (redis_receive(b->look.redis, &reply, err))
			return -1;
		there[i] = reply_int(reply, 0) > 0;
		reply_free(reply);
	}
	return 0;
}

/* Those of one queue, in one pass over its lists; twice, since a job may move back behind the look. */
static int look_for(struct batch *b, const struct waiting *w, const char *queue, bool *there, struct error *err)
{
	struct sought *sought = calloc(w->n, sizeof *sought);
	size_t n = 0, k = 0;
	int rc = 0;

	if (!sought)
		return error_set(err, ERR_MEMORY, "no memory");
	for (size_t i = 0; i < w->n; i++)
		if (!there[i] && strcmp(w->items[i]->queue, queue) == 0)
			sought[n++].id = w->items[i]->id;
	for (int look = 0; rc == 0 && look < 2; look++)
		rc = locate(b->look.redis, b->cli->settings->key_prefix, queue, sought, n, err);
	for (size_t i = 0; rc == 0 && i < w->n; i++)
		if (!there[i] && strcmp(w->items[i]->queue, queue) == 0)
			there[i] = sought[k++].place != PLACE_UNKNOWN;
	free(sought);
	return rc;
}

/* Results are looked at last again: a job that ended meanwhile is found there. */
static int find_submitted(struct batch *b, const struct waiting *w, bool *there, struct error *err)
{
	bool *result = calloc(w->n + 1, sizeof *result);
	int rc;

	if (!result)
		return error_set(err, ERR_MEMORY, "no memory");
	rc = has_results(b, w, there, err);
	for (size_t i = 0; rc == 0 && i < w->n; i++) {
		bool first = !there[i];

		for (size_t k = 0; k < i && first; k++)
			first = there[k] || strcmp(w->items[k]->queue, w->items[i]->queue) != 0;
		if (first)
			rc = look_for(b, w, w->items[i]->queue, there, err);
	}
	if (rc == 0)
		rc = has_results(b, w, result, err);
	for (size_t i = 0; rc == 0 && i < w->n; i++)
		there[i] = there[i] || result[i];
	free(result);
	return rc;
}

static void drop_known(struct waiting *w, const bool *there)
{
	size_t kept = 0;

	for (size_t i = 0; i < w->n; i++) {
		if (there[i])
			continue;
		w->jobs[kept] = w->jobs[i];
		w->items[kept] = w->items[i];
		w->at[kept++] = w->at[i];
	}
	w->n = kept;
}

/* --- Submitting. -------------------------------------------------------------------------------------------------- */

/* Returns an exit code, told. */
static int submit(struct batch *b, struct waiting *w)
{
	struct adwuma_error failed = {0};

	for (size_t i = 0; i < w->n; i++)
		w->jobs[i].json = w->text.ptr + w->at[i];
	if (w->n == 0 || adwuma_submit_many(b->client, w->jobs, w->n, &failed) == 0)
		return CLI_DONE;
	for (size_t i = 0; i < w->n; i++)
		if (w->jobs[i].error.code == ADWUMA_INVALID)
			refuse_line(w->items[i], 0, w->jobs[i].error.message);
		else if (w->jobs[i].error.code != ADWUMA_OK)
			return say_error(&w->jobs[i].error);
	return CLI_DONE;
}

/* Returns an exit code, told. */
static int fill(struct batch *b)
{
	struct waiting *w = calloc(1, sizeof *w);
	bool *there = calloc(WINDOW, sizeof *there);
	size_t before = b->n;
	struct error err = {0};
	int rc = CLI_JOB_FAILED;

	if (!w || !there) {
		say("no memory for %d lines", WINDOW);
	} else {
		w->text = BUF_INIT(READ_AHEAD_BYTES + 2 * (size_t)b->cli->settings->max_job_bytes);
		if (read_some(b, w, &err))
			rc = say_failure(&err);
		else if (b->unsure_left > 0 && find_submitted(b, w, there, &err))
			rc = look_failed(&b->look, &err);
		else {
			drop_known(w, there);
			rc = submit(b, w);
		}
		b->unsure_left -= b->unsure_left < b->n - before ? b->unsure_left : b->n - before;
		buf_release(&w->text);
	}
	free(there);
	free(w);
	return rc;
}

/* --- Collecting. -------------------------------------------------------------------------------------------------- */

/* The results of the oldest lines, as many as are there one behind the other. 0, or -1: Redis cannot be used. */
static int collect(struct batch *b, struct error *err)
{
	size_t n = b->n < LOOK_AT_ONCE ? b->n : LOOK_AT_ONCE;
	char name[KEY_MAX];
	struct keys keys;

	for (size_t i = 0; i < n; i++) {
		if (item_at(b, i)->ready.len > 0)
			continue;
		keys_init(&keys, b->cli->settings->key_prefix, item_at(b, i)->queue);
		key_result(&keys, item_at(b, i)->id, name);
		if (redis_appendf(b->look.redis, err, "LINDEX %s 0", name))
			return -1;
	}
	for (size_t i = 0; i < n; i++) {
		struct item *item = item_at(b, i);
		struct reply *reply = NULL;
		const char *text;
		size_t len;

		if (item->ready.len > 0)
			continue;
		if (redis_receive(b->look.redis, &reply, err))
			return -1;
		text = reply_bytes(reply, &len);
		if (text)
			buf_add(&item->ready, text, len);
		reply_free(reply);
	}
	return 0;
}

/* Writes whole lines only, in one piece. Returns an exit code, told. */
static int put_out(struct batch *b)
{
	struct error err = {0};
	int rc = CLI_DONE;

	buf_clear(&b->lines_out);
	while (b->n > 0 && item_at(b, 0)->ready.len > 0) {
		struct item *item = item_at(b, 0);

		count_line(b, item->ready.ptr);
		json_add_clean(&b->lines_out, (struct span){item->ready.ptr, item->ready.len});
		buf_char(&b->lines_out, '\n');
		buf_release(&item->ready);
		b->first = (b->first + 1) % WINDOW;
		b->n--;
	}
	if (b->lines_out.len == 0)
		return CLI_DONE;
	b->moved_ms = clock_mono_ms();
	if (b->lines_out.failed || write_all(b, b->lines_out.ptr, b->lines_out.len, &err)) {
		say("%s", b->lines_out.failed ? "no memory for results" : err.msg);
		rc = CLI_JOB_FAILED;
	}
	return rc;
}

static void tell(struct batch *b, bool last)
{
	int64_t now = clock_mono_ms();

	progress_step(b->done, b->failed);
	if (isatty(STDERR_FILENO) || (!last && now - b->told_ms < TELL_EVERY_MS))
		return;
	if (!last)
		say("%zu of %zu done, %zu failed", b->done, b->of, b->failed);
	b->told_ms = now;
}

/* Until the oldest line's result is there, or a second has passed. 0, or -1: Redis cannot be used. */
static int wait_for_first(struct batch *b, struct error *err)
{
	struct item *item = item_at(b, 0);
	struct reply *reply = NULL;
	char name[KEY_MAX];
	struct keys keys;
	const char *text;
	size_t len;

	keys_init(&keys, b->cli->settings->key_prefix, item->queue);
	key_result(&keys, item->id, name);
	if (redis_call(b->look.redis, &reply, err, "BLMOVE %s %s LEFT LEFT %d", name, name, STEP_MS / 1000))
		return -1;
	text = reply_bytes(reply, &len);
	if (text)
		buf_add(&item->ready, text, len);
	reply_free(reply);
	return 0;
}

static void wait_for_redis(struct batch *b, struct error *err)
{
	bool told = false;

	do {
		if (!told)
			look_say_lost(&b->look, err);
		told = true;
		usleep(STEP_MS * 1000 / 4);
	} while (look_reconnect(&b->look, err));
	look_say_back(&b->look);
	b->moved_ms = clock_mono_ms();
}

/* Returns the exit code, told. */
static int run(struct batch *b, int64_t stall_ms)
{
	int rc = CLI_DONE;
	bool hinted = false;

	b->moved_ms = b->told_ms = clock_mono_ms();
	while (rc == CLI_DONE) {
		struct error err = {0};

		if (!b->at_end && b->n <= WINDOW / 2)
			rc = fill(b);
		if (rc || (b->at_end && b->n == 0))
			break;
		if (collect(b, &err) || (b->n > 0 && item_at(b, 0)->ready.len == 0 && wait_for_first(b, &err))) {
			wait_for_redis(b, &err);
			continue;
		}
		rc = put_out(b);
		tell(b, false);
		if (!hinted && clock_mono_ms() - b->moved_ms > 2 * STEP_MS && b->n > 0) {
			progress_erase();
			look_hint_at_workers(&b->look, b->cli->settings->key_prefix, item_at(b, 0)->queue,
					     "the batch waits for one");
			hinted = true;
		}
		if (b->n > 0 && clock_mono_ms() - b->moved_ms > stall_ms) {
			progress_erase();
			say("no result for %g s; job %s is waited for: adwuma result --queue %s %s tells where it is; the same command goes on",
			    (double)stall_ms / 1000, item_at(b, 0)->id, item_at(b, 0)->queue, item_at(b, 0)->id);
			rc = CLI_TIMED_OUT;
		}
	}
	return rc;
}

/* --- Beginning and end. ------------------------------------------------------------------------------------------- */

/* Lines that are done are passed over; with them those of the old output. */
static int pass_over(struct batch *b, struct error *err)
{
	const char *line;
	size_t len;
	int rc = 1;

	while (rc > 0 && b->read < b->done) {
		rc = next_line(&b->in, &line, &len, err);
		if (rc > 0 && b->retries && next_line(&b->old, &line, &len, err) < 0)
			rc = -1;
		b->read += rc > 0;
	}
	if (rc == 0)
		return error_set(err, ERR_USAGE,
				 "%s has %zu lines and the input only %zu: is it the output of another batch?", b->into,
				 b->done, b->read);
	return rc < 0 ? -1 : 0;
}

/* For the bar; nothing where the input can be read but once. */
static size_t count_lines(const struct batch *b, const char *path)
{
	struct lines lines;
	const char *line;
	size_t len, n = 0;
	struct error err = {0};

	if (strcmp(path, "-") == 0 || lines_open(&lines, path, (size_t)b->cli->settings->max_job_bytes, &err))
		return 0;
	while (next_line(&lines, &line, &len, &err) > 0)
		n++;
	lines_close(&lines);
	return n;
}

/* The whole name of OUT: from another folder it is the same batch. */
static int name_output(struct batch *b, struct error *err)
{
	const char *given = b->cli->option[OPT_INTO] ? b->cli->option[OPT_INTO] : "";
	const char *slash = strrchr(given, '/');
	char folder[PATH_BYTES], whole[PATH_BYTES];

	snprintf(folder, sizeof folder, "%.*s", slash ? (int)(slash - given) + 1 : 1, slash ? given : ".");
	if (!*given || strcmp(given, "-") == 0 || (slash && !slash[1]))
		return error_set(err, ERR_USAGE, "-o must name a file: what is in it says what is done");
	if (!realpath(folder, whole))
		return error_set(err, ERR_USAGE, "%s: %s", folder, strerror(errno));
	if ((size_t)snprintf(b->path, sizeof b->path, "%s/%s", whole, slash ? slash + 1 : given) >= sizeof b->path)
		return error_set(err, ERR_USAGE, "%.200s... is too long a name", given);
	snprintf(b->into, sizeof b->into, "%s%s", b->path, b->retries ? ".new" : "");
	return 0;
}

static int open_all(struct batch *b, struct error *err)
{
	size_t max = (size_t)b->cli->settings->max_job_bytes;

	if (name_output(b, err))
		return -1;
	if (b->retries && lines_open(&b->old, b->path, PICK_TEXT_MAX / 2, err))
		return -1;
	if (lines_open(&b->in, b->cli->operands[0], max, err))
		return -1;
	if (open_output(b, err))
		return -1;
	b->unsure_left = WINDOW;
	return pass_over(b, err);
}

static void summarize(const struct batch *b)
{
	struct buf kinds = BUF_INIT(4096);

	for (size_t i = 0; i < KINDS_MAX && *b->kinds[i].name; i++)
		buf_printf(&kinds, "%s%s %zu", i ? ", " : ": ", b->kinds[i].name, b->kinds[i].n);
	say("%zu done: %zu succeeded, %zu failed%s", b->done, b->done - b->failed, b->failed, buf_cstr(&kinds));
	if (b->failed > 0)
		say("  adwuma batch --retry-failed, with the same files, does those that failed once more");
	buf_release(&kinds);
}

static void close_all(struct batch *b)
{
	for (size_t i = 0; i < b->n; i++)
		buf_release(&item_at(b, i)->ready);
	if (b->in.name)
		lines_close(&b->in);
	if (b->old.name)
		lines_close(&b->old);
	if (b->out >= 0)
		close(b->out);
	free(b->items);
	buf_release(&b->scratch);
	buf_release(&b->lines_out);
	adwuma_close(b->client);
	look_close(&b->look);
}

/* Everything is in the new output: it takes the old one's place. */
static int replace_old(struct batch *b)
{
	if (!b->retries || (fsync(b->out) == 0 && rename(b->into, b->path) == 0))
		return CLI_DONE;
	say("%s cannot take the place of %s: %s", b->into, b->path, strerror(errno));
	return CLI_JOB_FAILED;
}

int cli_batch(const struct cli *cli)
{
	struct batch b = {.cli = cli,
			  .out = -1,
			  .retries = cli->option[OPT_RETRY_FAILED],
			  .scratch = BUF_INIT((size_t)cli->settings->max_job_bytes),
			  .lines_out = BUF_INIT(SIZE_MAX / 4)};
	struct adwuma_error failed = {0};
	struct error err = {0};
	int64_t stall_ms;
	int rc = cli_time_ms(cli, OPT_TIMEOUT, STALL_MS, &stall_ms);

	if (rc)
		return rc;
	if (!cli->option[OPT_INTO])
		return cli_misused(cli->command, "-o OUT is needed: the file that the results go to");
	b.items = calloc(WINDOW, sizeof *b.items);
	if (!b.items || open_all(&b, &err)) {
		say("batch: %s", b.items ? err.msg : "no memory");
		close_all(&b);
		return CLI_USAGE;
	}
	b.client = client_open(cli->settings, &failed);
	rc = b.client ? look_connect(&b.look, cli) : say_error(&failed);
	if (rc == CLI_DONE) {
		b.of = count_lines(&b, cli->operands[0]);
		progress_begin(b.of, false);
		progress_step(b.done, b.failed);
		rc = run(&b, stall_ms);
		progress_end();
	}
	if (rc == CLI_DONE)
		rc = replace_old(&b);
	if (rc == CLI_DONE) {
		summarize(&b);
		rc = b.failed > 0 ? CLI_JOB_FAILED : CLI_DONE;
	} else if (rc == CLI_UNREACHABLE) {
		say("  %zu lines are done; the same command goes on", b.done);
	}
	close_all(&b);
	return rc;
}
