/* SPDX-License-Identifier: MIT
 *
 * doctor: the table of its checks, and how they are told. Each is made, whatever the others found, unless what it needs is not there: that was told
 * then. A line is printed as soon as it is known, since some checks wait for a network. */
#include "cli/doctor.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "cli/out.h"
#include "queue/address.h"

#define JSON_MAX (4 * 1024 * 1024)

enum need {
	EACH_SERVER = 1,
	NEEDS_REDIS = 2 | EACH_SERVER,
	NEEDS_INFO = 4 | EACH_SERVER,
	NEEDS_QUEUES = 8, /* one that can be asked */
	NEEDS_HTTP = 16,
	NEEDS_SENTINELS = 32,
	NEEDS_CLUSTER = 64,
};

static const struct check {
	const char *name;
	unsigned needs;
	void (*look)(struct doctor *d);
} checks[] = {
	{"settings", 0, doctor_settings},
	{"secret files", 0, doctor_secret_files},
	{"open files", 0, doctor_open_files},
	{"sentinels", NEEDS_SENTINELS, doctor_sentinels},
	{"cluster", NEEDS_CLUSTER, doctor_cluster},
	{"redis", EACH_SERVER, doctor_redis},
	{"version", NEEDS_INFO, doctor_version},
	{"role", NEEDS_INFO, doctor_role},
	{"tls", NEEDS_REDIS, doctor_tls},
	{"persistence", NEEDS_REDIS | NEEDS_INFO, doctor_persistence},
	{"eviction", NEEDS_REDIS | NEEDS_INFO, doctor_eviction},
	{"memory", NEEDS_REDIS | NEEDS_INFO, doctor_memory},
	{"clients", NEEDS_REDIS | NEEDS_INFO, doctor_clients},
	{"replicas", NEEDS_REDIS | NEEDS_INFO, doctor_replicas},
	{"replicas", NEEDS_CLUSTER, doctor_unfollowed},
	{"slots", NEEDS_REDIS | NEEDS_CLUSTER, doctor_slots},
	{"latency", NEEDS_REDIS, doctor_latency},
	{"clock", NEEDS_REDIS, doctor_clock},
	{"rights", NEEDS_REDIS, doctor_rights},
	{"key types", NEEDS_QUEUES, doctor_types},
	{"writes", NEEDS_QUEUES, doctor_writes},
	{"pauses", NEEDS_QUEUES, doctor_pauses},
	{"workers", NEEDS_QUEUES, doctor_workers},
	{"leases", NEEDS_QUEUES, doctor_leases},
	{"dead jobs", NEEDS_QUEUES, doctor_dead},
	{"api urls", 0, doctor_urls},
	{"certificates", 0, doctor_certificates},
	{"api translate", NEEDS_HTTP, doctor_translate},
	{"api transcribe", NEEDS_HTTP, doctor_transcribe},
	{"api synthesize", NEEDS_HTTP, doctor_synthesize},
	{"api taskingai", NEEDS_HTTP, doctor_taskingai},
};
#define CHECKS (sizeof checks / sizeof *checks)

/* --- Telling. ----------------------------------------------------------------------------------------------------- */

static void close_object(struct doctor *d)
{
	if (d->open)
		buf_lit(&d->json, "null}");
	d->open = false;
}

/* What was found is printed at once; as JSON all of it is one array. */
static void print_found(struct doctor *d, enum doctor_state state, const char *text)
{
	static const char *const marks[DOCTOR_STATES] = {"ok", "warn", "BAD"};

	out_printf("%-4s  %-*s  %s%s%s\n", marks[state], d->width, d->check, doctor_is_node(d) ? d->at->where : "",
		   doctor_is_node(d) ? ": " : "", text);
	out_flush();
}

static void add_found(struct doctor *d, enum doctor_state state, const char *text)
{
	static const char *const names[DOCTOR_STATES] = {"ok", "warn", "bad"};

	close_object(d);
	buf_printf(&d->json, "%c{\"check\":\"%s\",", d->json.len > 0 ? ',' : '[', d->check);
	if (redis_spreads(&d->look.address)) {
		buf_lit(&d->json, "\"node\":");
		buf_json_cstr(&d->json, doctor_is_node(d) ? d->at->where : NULL);
		buf_char(&d->json, ',');
	}
	buf_printf(&d->json, "\"state\":\"%s\",\"message\":", names[state]);
	buf_json_cstr(&d->json, text);
	buf_lit(&d->json, ",\"mend\":");
	d->open = true;
}

/* Servers' words stand in it. */
static void clean_text(struct buf *out, const char *fmt, va_list ap)
{
	char text[DOCTOR_TEXT_MAX];

	vsnprintf(text, sizeof text, fmt, ap);
	clean_line(out, text, strlen(text));
}

void found(struct doctor *d, enum doctor_state state, const char *fmt, ...)
{
	struct buf text = BUF_INIT(3 * DOCTOR_TEXT_MAX); /* U+FFFD has three bytes */
	va_list ap;

	va_start(ap, fmt);
	clean_text(&text, fmt, ap);
	va_end(ap);
	d->counts[state]++;
	if (d->json.max > 0)
		add_found(d, state, buf_cstr(&text));
	else
		print_found(d, state, buf_cstr(&text));
	buf_release(&text);
}

void mend(struct doctor *d, const char *fmt, ...)
{
	struct buf text = BUF_INIT(3 * DOCTOR_TEXT_MAX);
	va_list ap;

	va_start(ap, fmt);
	clean_text(&text, fmt, ap);
	va_end(ap);
	if (d->open) {
		buf_json_cstr(&d->json, buf_cstr(&text));
		buf_char(&d->json, '}');
		d->open = false;
	} else if (d->json.max == 0) {
		out_printf("      mend: %s\n", buf_cstr(&text));
		out_flush();
	}
	buf_release(&text);
}

void mend_later(struct doctor *d, const char *why)
{
	char flags[DOCTOR_TEXT_MAX];

	mend(d, "sleep 10; adwuma doctor%s    # %s", given(d, NULL, flags), why);
}

const char *shell_word(const char *word, char out[DOCTOR_TEXT_MAX])
{
	static const char plain[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./:@%+=,-";
	size_t to = 0;

	if (*word && strspn(word, plain) == strlen(word)) {
		snprintf(out, DOCTOR_TEXT_MAX, "%s", word);
		return out;
	}
	out[to++] = '\'';
	for (; *word && to < DOCTOR_TEXT_MAX - 6; word++) {
		if (*word == '\'') { /* ends the quotes, stands for itself, begins them again */
			memcpy(out + to, "'\\'", 3);
			to += 3;
		}
		out[to++] = *word;
	}
	out[to++] = '\'';
	out[to] = '\0';
	return out;
}

/* --- The command. ------------------------------------------------------------------------------------------------- */

static bool has_queue(struct doctor *d)
{
	bool has = false;

	for (size_t i = 0; i < d->look.nqueues && !has; i++)
		has = doctor_enter(d, i);
	d->at = NULL;
	return has;
}

static bool can(struct doctor *d, unsigned needs)
{
	return (!(needs & NEEDS_SENTINELS) || d->look.address.kind == REDIS_SENTINEL) &&
	       (!(needs & NEEDS_CLUSTER) || d->look.address.kind == REDIS_CLUSTER) &&
	       (!(needs & NEEDS_HTTP) || d->http) && (!(needs & NEEDS_QUEUES) || has_queue(d));
}

static bool can_ask(const struct server *s, unsigned needs)
{
	return ((needs & NEEDS_REDIS) != NEEDS_REDIS || s->redis) && ((needs & NEEDS_INFO) != NEEDS_INFO || s->info);
}

/* Of several servers each is asked before the next check, so that what they answer stands side by side. */
static void make_check(struct doctor *d, const struct check *c)
{
	if (!(c->needs & EACH_SERVER))
		c->look(d);
	for (size_t i = 0; c->needs & EACH_SERVER && i < d->nservers; i++) {
		d->at = &d->servers[i];
		if (can_ask(d->at, c->needs))
			c->look(d);
	}
	d->at = NULL;
}

static void check_all(struct doctor *d)
{
	for (size_t i = 0; i < CHECKS; i++)
		if ((int)strlen(checks[i].name) > d->width)
			d->width = (int)strlen(checks[i].name);
	for (size_t i = 0; i < CHECKS; i++) {
		d->check = checks[i].name;
		if (can(d, checks[i].needs))
			make_check(d, &checks[i]);
	}
}

static int tell_sum(struct doctor *d)
{
	if (d->json.max > 0) {
		close_object(d);
		buf_char(&d->json, ']');
		out_line(buf_cstr(&d->json), d->json.len);
	}
	out_flush();
	say("%zu well, %zu to look at, %zu wrong", d->counts[FOUND_OK], d->counts[FOUND_WARN], d->counts[FOUND_BAD]);
	if (d->unreachable)
		return CLI_UNREACHABLE;
	return d->counts[FOUND_BAD] > 0 || d->json.failed ? CLI_JOB_FAILED : CLI_DONE;
}

int cli_doctor(const struct cli *cli)
{
	const struct settings *s = cli->settings;
	struct doctor d = {.cli = cli,
			   .settings = s,
			   .json = BUF_INIT(cli->option[OPT_JSON] ? JSON_MAX : 0),
			   .bare = BUF_INIT(DOCTOR_TEXT_MAX)};
	struct error err = {0};
	int rc;

	look_choose_queues(&d.look, cli);
	if (address_from_settings(&d.look.address, s, &err)) {
		error_prefix(&err, "redis_url");
		return say_failure(&err);
	}
	/* Else it is found when those who know it are asked. */
	if (d.look.address.kind == REDIS_ALONE && doctor_find(&d, &err))
		return say_failure(&err);
	check_all(&d);
	rc = tell_sum(&d);
	doctor_close_api(&d);
	doctor_forget(&d);
	look_close(&d.look);
	buf_release(&d.json);
	return rc;
}
