/* SPDX-License-Identifier: MIT
 *
 * languages, speakers: what the API offers, asked there without Redis and workers. What fails for a while is tried again as its SDK does. */
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "api/catalogue.h"
#include "base/clock.h"
#include "cli/cli.h"
#include "cli/out.h"
#include "cli/show.h"
#include "cli/table.h"

#define SERVICES 3 /* with languages: the first of the catalogues */
#define ATTEMPTS 3
#define TIMEOUT_MS 60000
#define WAIT_MAX_MS 60000 /* between two attempts, whatever a server asks for */
#define TEXT_MAX (4 * 1024 * 1024)

/* As operands, in messages and as columns. */
static const char *const services[SERVICES] = {
	[CATALOGUE_TRANSLATE] = "translate", [CATALOGUE_ASR] = "asr", [CATALOGUE_TTS] = "tts"};
static const char *const wanted[CATALOGUES] = {[CATALOGUE_TRANSLATE] = "the languages of translate",
					       [CATALOGUE_ASR] = "the languages of asr",
					       [CATALOGUE_TTS] = "the languages of tts",
					       [CATALOGUE_SPEAKERS] = "the speakers"};

/* --- Asking. ------------------------------------------------------------------------------------------------------ */

static int64_t pause_ms(const struct outcome *out, int64_t attempt)
{
	int64_t ms = outcome_retry_delay_ms(attempt, out->retry_after_ms, (double)(clock_mono_us() % 1000) / 1000);

	return ms < WAIT_MAX_MS ? ms : WAIT_MAX_MS;
}

static int say_fault_of(enum catalogue_kind kind, const struct http_response *resp, const struct outcome *out)
{
	struct buf json = BUF_INIT(TEXT_MAX);

	fault_json(&out->fault, &json);
	say_fault(wanted[kind], (struct span){buf_cstr(&json), json.len});
	buf_release(&json);
	if (resp->end == HTTP_ANSWERED)
		return CLI_JOB_FAILED;
	say("  does KHAYA_BASE_URL name the right place, and does the network let us there?");
	return CLI_UNREACHABLE;
}

/* Returns an exit code, told; *c is owned where it is CLI_DONE. */
static int ask(const struct settings *s, struct http *http, enum catalogue_kind kind, const struct http_target *target,
	       struct catalogue *c)
{
	int64_t attempts = s->khaya_retry_attempts ? s->khaya_retry_attempts : ATTEMPTS;
	struct http_request req = {.target = target,
				   .method = "GET",
				   .timeout_ms = s->khaya_timeout ? s->khaya_timeout * 1000 : TIMEOUT_MS,
				   .max_response_bytes = (size_t)s->max_response_bytes};
	struct http_response resp = {0};
	struct outcome out;
	int rc;

	outcome_init(&out);
	for (int64_t attempt = 1;; attempt++) {
		int64_t ms;

		http_perform(http, &req, &resp);
		catalogue_read(kind, s, &resp, c, &out);
		if (out.kind != OUTCOME_RETRY || attempt == attempts)
			break;
		ms = pause_ms(&out, attempt);
		say("%s: %s; again in %.1f s", wanted[kind], buf_cstr(&out.fault.message), (double)ms / 1000);
		clock_nap(ms); /* Ctrl-C ends the program here as anywhere */
	}
	rc = out.kind == OUTCOME_SUCCEEDED ? CLI_DONE : say_fault_of(kind, &resp, &out);
	outcome_release(&out);
	return rc;
}

static int say_no_target(enum catalogue_kind kind, const struct error *err)
{
	say("%s: %s (KHAYA_API_KEY or KHAYA_API_KEY_FILE gives the key, KHAYA_BASE_URL the place)", wanted[kind],
	    err->msg);
	return err->code == ERR_CONFIG ? CLI_SETTINGS : CLI_JOB_FAILED;
}

static int fetch(const struct settings *s, struct http *http, enum catalogue_kind kind, struct catalogue *c)
{
	struct error err = {0};
	struct http_target *target = catalogue_target(kind, s, &err);
	int rc = target ? ask(s, http, kind, target, c) : say_no_target(kind, &err);

	http_target_free(target);
	return rc;
}

/* Catalogues of kinds from up to last, one after the other, as far as they are to be had. Returns what weighs most. */
static int fetch_all(const struct settings *s, struct catalogue all[CATALOGUES], bool had[CATALOGUES],
		     enum catalogue_kind from, enum catalogue_kind last)
{
	struct error err = {0};
	struct http_shared *shared;
	struct http *http;
	int rc = CLI_DONE;

	if (s->api_ca_file && http_check_ca_file(s->api_ca_file, &err))
		return say_failure(&err);
	shared = http_shared_new(s->api_ca_file, &err);
	http = shared ? http_new(shared, &err) : NULL;
	if (!http)
		rc = say_failure(&err);
	for (unsigned i = from; http && i <= last; i++) {
		int one = fetch(s, http, (enum catalogue_kind)i, &all[i]);

		had[i] = one == CLI_DONE;
		rc = one ? one : rc;
		if (one == CLI_UNREACHABLE) /* so are the others */
			break;
	}
	http_free(http);
	http_shared_free(shared);
	return rc;
}

/* --- Languages. --------------------------------------------------------------------------------------------------- */

/* One language, and its code in each service; NULL where it has none. */
struct language {
	const char *name;
	const char *codes[SERVICES];
};

struct languages {
	struct language *rows;
	size_t n;
};

static bool same_code(const struct language *row, const struct catalogue_entry *e)
{
	for (size_t i = 0; i < SERVICES; i++)
		if (row->codes[i] && strcmp(row->codes[i], e->code) == 0)
			return true;
	return false;
}

static bool same_name(const struct language *row, const struct catalogue_entry *e)
{
	return *e->name && strcasecmp(row->name, e->name) == 0;
}

/* Puts the entries that nobody has placed into rows that are the same, and takes them out of the catalogue. */
static void join(struct languages *l, unsigned service, struct catalogue *c,
		 bool (*same)(const struct language *, const struct catalogue_entry *))
{
	size_t left = 0;

	for (size_t i = 0; i < c->n; i++) {
		const struct catalogue_entry e = c->entries[i];
		size_t k = 0;

		while (k < l->n && (l->rows[k].codes[service] || !same(&l->rows[k], &e)))
			k++;
		if (k == l->n)
			c->entries[left++] = e;
		else
			l->rows[k].codes[service] = e.code;
	}
	c->n = left;
}

/* The services spell some codes in their own ways (Konkomba), and some names (Asante Twi): what shares either is one language. */
static void add_service(struct languages *l, unsigned service, struct catalogue *c)
{
	join(l, service, c, same_code);
	join(l, service, c, same_name);
	for (size_t i = 0; i < c->n; i++) {
		l->rows[l->n] = (struct language){.name = c->entries[i].name};
		l->rows[l->n++].codes[service] = c->entries[i].code;
	}
}

static int by_name(const void *a, const void *b)
{
	return strcasecmp(((const struct language *)a)->name, ((const struct language *)b)->name);
}

static void print_member(struct buf *line, const char *name, const char *value)
{
	buf_printf(line, "%s\"%s\":", line->len ? "," : "{", name);
	buf_json_cstr(line, value && *value ? value : NULL);
}

static void end_line(struct buf *line)
{
	buf_char(line, '}');
	out_line(buf_cstr(line), line->len);
	buf_clear(line);
}

static void table_text(struct table *t, const char *text)
{
	table_cellf(t, "%s", text && *text ? text : "-");
}

static void print_languages(const struct languages *l, const bool had[CATALOGUES], bool json)
{
	struct buf line = BUF_INIT(TEXT_MAX);
	struct table t;

	table_open(&t, 0);
	table_column(&t, "language");
	for (size_t s = 0; s < SERVICES; s++)
		if (had[s])
			table_column(&t, services[s]);
	for (size_t i = 0; i < l->n; i++) {
		if (json)
			print_member(&line, "name", l->rows[i].name);
		else
			table_text(&t, l->rows[i].name);
		for (size_t s = 0; s < SERVICES; s++) {
			if (had[s] && json)
				print_member(&line, services[s], l->rows[i].codes[s]);
			else if (had[s])
				table_text(&t, l->rows[i].codes[s]);
		}
		if (json)
			end_line(&line);
	}
	if (!json)
		table_close(&t);
	buf_release(&t.cells);
	buf_release(&line);
}

/* Entries as they are, under these two names. */
static void print_entries(const struct catalogue *c, const char *const names[2], bool name_first, bool json)
{
	struct buf line = BUF_INIT(TEXT_MAX);
	struct table t;

	table_open(&t, 0);
	table_column(&t, names[0]);
	table_column(&t, names[1]);
	for (size_t i = 0; i < c->n; i++) {
		const struct catalogue_entry *e = &c->entries[i];
		const char *const cells[2] = {name_first ? e->name : e->code, name_first ? e->code : e->name};

		for (size_t k = 0; k < 2; k++) {
			if (json)
				print_member(&line, names[k], cells[k]);
			else
				table_text(&t, cells[k]);
		}
		if (json)
			end_line(&line);
	}
	if (!json)
		table_close(&t);
	buf_release(&t.cells);
	buf_release(&line);
}

static int print_all(struct catalogue all[CATALOGUES], const bool had[CATALOGUES], bool json)
{
	struct languages l = {.rows = calloc(all[0].n + all[1].n + all[2].n + 1, sizeof *l.rows)};

	if (!l.rows) {
		say("no memory for the languages");
		return CLI_JOB_FAILED;
	}
	for (unsigned i = 0; i < SERVICES; i++)
		add_service(&l, i, &all[i]);
	qsort(l.rows, l.n, sizeof *l.rows, by_name);
	print_languages(&l, had, json);
	free(l.rows);
	return CLI_DONE;
}

/* --- The commands. ------------------------------------------------------------------------------------------------ */

int cli_languages(const struct cli *cli)
{
	static const char *const names[2] = {"code", "name"};
	const char *service = cli->noperands ? cli->operands[0] : NULL;
	struct catalogue all[CATALOGUES] = {0};
	bool had[CATALOGUES] = {false}, json = cli->option[OPT_JSON] != NULL;
	unsigned i = 0;
	int rc;

	while (service && i < SERVICES && strcmp(services[i], service) != 0)
		i++;
	if (i == SERVICES)
		return cli_misused(cli->command, "'%s' is no service; there are asr, tts and translate", service);
	rc = fetch_all(cli->settings, all, had, (enum catalogue_kind)i,
		       service ? (enum catalogue_kind)i : CATALOGUE_TTS);
	if (service && had[i])
		print_entries(&all[i], names, false, json);
	else if (!service && rc != CLI_UNREACHABLE && (had[0] || had[1] || had[2]))
		rc = print_all(all, had, json) ? CLI_JOB_FAILED : rc;
	for (i = 0; i < SERVICES; i++)
		catalogue_release(&all[i]);
	return rc;
}

int cli_speakers(const struct cli *cli)
{
	static const char *const names[2] = {"group", "speaker"};
	struct catalogue all[CATALOGUES] = {0};
	bool had[CATALOGUES] = {false};
	int rc = fetch_all(cli->settings, all, had, CATALOGUE_SPEAKERS, CATALOGUE_SPEAKERS);

	if (rc == CLI_DONE)
		print_entries(&all[CATALOGUE_SPEAKERS], names, true, cli->option[OPT_JSON] != NULL);
	catalogue_release(&all[CATALOGUE_SPEAKERS]);
	return rc;
}
