/* SPDX-License-Identifier: MIT
 *
 * chat: a chat completion for each text, whose pieces are printed as they come. The result's text is what counts: where the pieces said something
 * else, it is printed anew. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/pick.h"
#include "cli/follow.h"
#include "cli/jobs.h"
#include "cli/out.h"

#define TYPE "taskingai.chat_completion"

/* Of the text at hand: what was printed of its answer. */
static struct {
	struct follow follow;
	struct buf printed;
	bool begun;
} chat;

static volatile bool interrupted;

static void on_interrupt(int sig)
{
	(void)sig;
	interrupted = true;
}

static int check(const struct cli *cli)
{
	if (!cli->option[OPT_MODEL] || !*cli->option[OPT_MODEL])
		return cli_misused(cli->command, "--model M is needed: a model's id, or an assistant's");
	return CLI_DONE;
}

static void add_message(struct buf *out, const char *role, const char *text, size_t n)
{
	buf_printf(out, "{\"role\":\"%s\",\"content\":", role);
	buf_json_string(out, text, n);
	buf_char(out, '}');
}

static int write_job(struct work *w, const char *operand, const char *id, struct buf *out)
{
	struct buf text = BUF_INIT((size_t)w->cli->settings->max_job_bytes);
	int rc = jobs_read_text(w, operand, &text);
	const char *system = w->cli->option[OPT_SYSTEM];

	(void)id;
	buf_lit(out, ",\"params\":{\"model_id\":");
	buf_json_cstr(out, w->cli->option[OPT_MODEL]);
	buf_printf(out, ",\"stream\":%s,\"messages\":[", w->cli->option[OPT_NO_STREAM] ? "false" : "true");
	if (system) {
		add_message(out, "system", system, strlen(system));
		buf_char(out, ',');
	}
	add_message(out, "user", buf_cstr(&text), text.len);
	buf_lit(out, "]}");
	buf_release(&text);
	return rc;
}

/* --- Pieces. ------------------------------------------------------------------------------------------------------ */

static void begin_anew(void)
{
	if (chat.printed.len > 0)
		out_write("\n", 1);
	out_flush();
	if (chat.begun)
		say("the attempt broke off; the answer begins anew");
	buf_clear(&chat.printed);
	chat.begun = false;
}

static void print_piece(const char *json, size_t n)
{
	struct want want[] = {{"delta", {0}}};
	struct buf text = BUF_INIT(PICK_TEXT_MAX);

	chat.begun = true;
	if (pick((struct span){json, n}, want, 1) == 0 && want[0].value.ptr) {
		pick_readable(want[0].value, &text);
		out_write(buf_cstr(&text), text.len);
		out_flush();
		buf_add(&chat.printed, buf_cstr(&text), text.len);
	}
	buf_release(&text);
}

static void on_entry(void *ctx, const char *event, const char *data, size_t n)
{
	(void)ctx;
	if (strcmp(event, "chunk") == 0)
		print_piece(data, n);
	else if (strcmp(event, "restart") == 0)
		begin_anew();
}

static void on_direct_piece(void *work, const char *json, size_t n)
{
	(void)work;
	if (json)
		print_piece(json, n);
	else
		begin_anew();
}

/* --- Waiting. ----------------------------------------------------------------------------------------------------- */

/* Dies as it would have without us, after the jobs that have not ended were taken back. */
static int cancel_rest(struct work *w, size_t from)
{
	const char **ids = calloc(w->n, sizeof *ids);
	struct error err = {0};

	for (size_t i = from; ids && i < w->n; i++)
		ids[i - from] = w->jobs[i].id;
	out_flush();
	if (!ids || follow_cancel(&chat.follow, ids, w->n - from, &err))
		say("interrupted; job %s could not be cancelled: %s; it goes on: adwuma result --queue %s %s",
		    w->jobs[from].id, ids ? err.msg : "out of memory", w->queue, w->jobs[from].id);
	for (size_t i = from; ids && !*err.msg && i < w->n; i++)
		say("interrupted; job %s is cancelled", w->jobs[i].id);
	free(ids);
	signal(SIGINT, SIG_DFL);
	raise(SIGINT);
	return CLI_JOB_FAILED; /* where it is ignored */
}

static int watch(struct work *w, size_t i, int64_t deadline)
{
	const struct sigaction catch = {.sa_handler = on_interrupt};
	struct sigaction before;

	if (sigaction(SIGINT, NULL, &before) == 0 && before.sa_handler != SIG_IGN)
		sigaction(SIGINT, &catch, NULL);
	buf_clear(&chat.printed);
	chat.printed.max = PICK_TEXT_MAX;
	chat.begun = false;
	chat.follow.cli = w->cli;
	chat.follow.client = w->client;
	chat.follow.queue = w->queue;
	chat.follow.entry = w->form == SHOW_WHOLE ? NULL : on_entry;
	chat.follow.interrupted = &interrupted;
	if (follow_job(&chat.follow, w->jobs[i].id, deadline, w->hinted ? NULL : "the job waits for one") ==
	    FOLLOW_INTERRUPTED)
		return cancel_rest(w, i);
	w->hinted = true;
	return CLI_DONE;
}

/* --- Results. ----------------------------------------------------------------------------------------------------- */

static struct span trimmed(struct span s)
{
	while (s.len > 0 && memchr(" \t\r\n", s.ptr[0], 4))
		s = (struct span){s.ptr + 1, s.len - 1};
	while (s.len > 0 && memchr(" \t\r\n", s.ptr[s.len - 1], 4))
		s.len--;
	return s;
}

static bool is_printed(const struct buf *text)
{
	struct span a = trimmed((struct span){buf_cstr(text), text->len}),
		    b = trimmed((struct span){buf_cstr(&chat.printed), chat.printed.len});

	return a.len == b.len && memcmp(a.ptr, b.ptr, a.len) == 0;
}

/* The text of the answer, or the functions it calls. */
static struct span answer_of(struct span result)
{
	struct want data[] = {{"data", {0}}}, message[] = {{"message", {0}}},
		    parts[] = {{"content", {0}}, {"function_calls", {0}}};

	if (!result.ptr || pick(result, data, 1) || !data[0].value.ptr || pick(data[0].value, message, 1) ||
	    !message[0].value.ptr || pick(message[0].value, parts, 2))
		return result;
	return parts[0].value.ptr ? parts[0].value : parts[1].value;
}

static int finish(struct work *w, size_t i, const char *json)
{
	struct buf text = BUF_INIT(PICK_TEXT_MAX);
	struct result r;
	int rc;

	if (w->form == SHOW_WHOLE)
		return jobs_show(w, i, json);
	if (result_read(&r, json) == 0 && result_succeeded(&r)) {
		pick_readable(answer_of(r.result), &text);
		if (chat.printed.len > 0)
			out_write("\n", 1);
		out_flush();
		if (chat.printed.len > 0 && !is_printed(&text))
			say("its last word is another:");
		if (chat.printed.len == 0 || !is_printed(&text))
			out_line(buf_cstr(&text), text.len);
		out_flush();
		rc = CLI_DONE;
	} else {
		if (chat.printed.len > 0)
			out_write("\n", 1);
		rc = result_show(w->jobs[i].id, json, SHOW_NOTHING, false);
	}
	buf_release(&text);
	buf_clear(&chat.printed);
	chat.begun = false;
	return rc;
}

int cli_chat(const struct cli *cli)
{
	static const struct trade trade = {.type = TYPE,
					   .check = check,
					   .write = write_job,
					   .finish = finish,
					   .watch = watch,
					   .piece = on_direct_piece};
	int rc;

	chat.printed = BUF_INIT(PICK_TEXT_MAX);
	rc = jobs_run(cli, &trade);
	follow_close(&chat.follow);
	buf_release(&chat.printed);
	return rc;
}
