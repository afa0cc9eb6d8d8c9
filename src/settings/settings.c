/* SPDX-License-Identifier: MIT
 *
 * The table of settings, and how a value gets from flag, environment or file into struct settings. See settings.h.
 *
 * Sources are applied from the weakest to the strongest, each on top of the last; checks that need the final values (check.c) come at the end. */
#include "settings/settings.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/buf.h"
#include "settings/check.h"
#include "settings/file.h"
#include "settings/row.h"

#define DEFAULT_FILE "/etc/adwuma/adwumad.conf"
#define SECRET_MAX 4096 /* bytes in a secret's file */
#define PLACE_MAX 256

extern char **environ;

#define AT(member) offsetof(struct settings, member)
#define DAY_S 86400LL
#define KIB 1024LL
#define MIB (1024LL * 1024)

/* name, kind, where, environment's own name or NULL for ADWUMA_<NAME>, default, min, max, choices, secret, sentence */
static const struct row rows[] = {
	{"redis_url", TEXT, AT(redis_url), NULL, "redis://127.0.0.1:6379/0", 0, 0, NULL, false,
	 "where Redis is: redis://[user:password@]host:port/db, unix:///path?db=0, with TLS rediss://…, by sentinels "
	 "redis+sentinel://host:port,host:port/name/db, a cluster redis+cluster://host:port,host:port"},
	{"redis_username", TEXT, AT(redis_username), NULL, NULL, 0, 0, NULL, false, "beats the name in redis_url"},
	{"redis_password", TEXT, AT(redis_password), NULL, NULL, 0, 0, NULL, true, "beats the password in redis_url"},
	{"redis_ca_file", TEXT, AT(redis_ca_file), NULL, NULL, 0, 0, NULL, false,
	 "CAs, in PEM, that sign the certificates of a rediss:// server; else those that the system trusts"},
	{"redis_cert_file", TEXT, AT(redis_cert_file), NULL, NULL, 0, 0, NULL, false,
	 "certificate, in PEM, that is shown to a rediss:// server which asks for one"},
	{"redis_key_file", TEXT, AT(redis_key_file), NULL, NULL, 0, 0, NULL, false,
	 "the key of redis_cert_file, in PEM"},
	{"queues", QUEUES, 0, NULL, "translate,transcribe,synthesize,taskingai", 0, 0, NULL, false,
	 "queues to serve, with optional weights: translate:3,bulk:1"},
	{"threads", INTEGER, AT(threads), NULL, "32", 1, THREADS_MAX, NULL, false, "calls made at the same time"},
	{"lease_ms", INTEGER, AT(lease_ms), NULL, "15000", 1000, 600000, NULL, false,
	 "a worker silent for so long is taken for dead"},
	{"dead_max_jobs", INTEGER, AT(dead_max_jobs), NULL, "10000", 1, 10000000, NULL, false,
	 "failed jobs kept per queue; the oldest go first"},
	{"dead_max_bytes", SIZE, AT(dead_max_bytes), NULL, "64M", KIB, 64 * 1024 * MIB, NULL, false,
	 "bytes of failed jobs kept per queue"},
	{"result_ttl_s", INTEGER, AT(result_ttl_s), NULL, "86400", 1, 365 * DAY_S, NULL, false,
	 "how long a result stays in Redis"},
	{"max_attempts", INTEGER, AT(max_attempts), NULL, "5", 1, 100, NULL, false, "how often a job is tried in all"},
	{"max_crashes", INTEGER, AT(max_crashes), NULL, "5", 1, 1000, NULL, false,
	 "a job that saw so many workers die is given up"},
	{"drain_timeout_s", INTEGER, AT(drain_timeout_s), NULL, "25", 0, 86400, NULL, false,
	 "how long running calls may take to end at a stop"},
	{"max_job_bytes", SIZE, AT(max_job_bytes), NULL, "16M", KIB, 512 * MIB, NULL, false, "largest job"},
	{"max_audio_bytes", SIZE, AT(max_audio_bytes), NULL, "64M", KIB, 512 * MIB, NULL, false,
	 "largest audio sent or made"},
	{"max_response_bytes", SIZE, AT(max_response_bytes), NULL, "64M", KIB, 512 * MIB, NULL, false,
	 "largest answer taken from an API"},
	{"audio_root", TEXT, AT(audio_root), NULL, NULL, 0, 0, NULL, false,
	 "directory that audio_path is looked up in and output_path written to; unset: jobs with paths are refused"},
	{"audio_url_allow", LIST, AT(audio_url_allow), NULL, NULL, 0, 0, NULL, false,
	 "hosts that audio_url may name: example.org, *.example.org, an address or a network, with :PORT for that one only; unset: none"},
	{"admin_listen", TEXT, AT(admin_listen), NULL, "127.0.0.1:9464", 0, 0, NULL, false,
	 "where health and metrics are served: host:port, or off"},
	{"log_level", CHOICE, AT(log_level), NULL, "info", 0, 0, "debug|info|warn|error", false,
	 "the least important lines that are logged"},
	{"log_format", CHOICE, AT(log_format), NULL, "logfmt", 0, 0, "logfmt|json", false,
	 "form of a log line on standard error"},
	{"key_prefix", TEXT, AT(key_prefix), NULL, "adwuma", 0, 0, NULL, false, "first word of every key in Redis"},
	{"khaya_api_key", TEXT, AT(khaya_api_key), "KHAYA_API_KEY", NULL, 0, 0, NULL, true,
	 "subscription key of Khaya AI"},
	{"khaya_translation_api_key", TEXT, AT(khaya_translation_api_key), "KHAYA_TRANSLATION_API_KEY", NULL, 0, 0,
	 NULL, true, "key of the translation service, where it has its own"},
	{"khaya_asr_api_key", TEXT, AT(khaya_asr_api_key), "KHAYA_ASR_API_KEY", NULL, 0, 0, NULL, true,
	 "key of speech recognition, where it has its own"},
	{"khaya_tts_api_key", TEXT, AT(khaya_tts_api_key), "KHAYA_TTS_API_KEY", NULL, 0, 0, NULL, true,
	 "key of speech synthesis, where it has its own"},
	{"khaya_base_url", TEXT, AT(khaya_base_url), "KHAYA_BASE_URL", "https://translation-api.ghananlp.org", 0, 0,
	 NULL, false, "root of the Khaya API"},
	{"khaya_timeout", INTEGER, AT(khaya_timeout), "KHAYA_TIMEOUT", NULL, 1, 3600, NULL, false,
	 "limit for one call in seconds; unset: by type of job"},
	{"khaya_retry_attempts", INTEGER, AT(khaya_retry_attempts), "KHAYA_RETRY_ATTEMPTS", NULL, 1, 100, NULL, false,
	 "how often a Khaya job is tried in all; unset: max_attempts"},
	{"khaya_translation_version", CHOICE_TEXT, AT(khaya_translation_version), "KHAYA_TRANSLATION_VERSION", "v1", 0,
	 0, "v1|v2", false, "version of the translation API: v1 or v2"},
	{"khaya_asr_version", CHOICE_TEXT, AT(khaya_asr_version), "KHAYA_ASR_VERSION", "v3", 0, 0, "v1|v2|v3", false,
	 "version of the recognition API: v1 (text alone), v2 or v3"},
	{"khaya_tts_version", CHOICE_TEXT, AT(khaya_tts_version), "KHAYA_TTS_VERSION", "v1", 0, 0, "v1|v2", false,
	 "version of the synthesis API: v1, or v2, which knows other formats than wav"},
	{"khaya_tts_max_chars", INTEGER, AT(khaya_tts_max_chars), "KHAYA_TTS_MAX_CHARS", "500", 1, 100000, NULL, false,
	 "longer text is spoken in parts, which are joined to one wav"},
	{"taskingai_api_key", TEXT, AT(taskingai_api_key), "TASKINGAI_API_KEY", NULL, 0, 0, NULL, true,
	 "key of TaskingAI"},
	{"taskingai_host", TEXT, AT(taskingai_host), "TASKINGAI_HOST", "https://api.tasking.ai", 0, 0, NULL, false,
	 "root of the TaskingAI API"},
	{"taskingai_timeout", INTEGER, AT(taskingai_timeout), "TASKINGAI_TIMEOUT", NULL, 1, 3600, NULL, false,
	 "limit for one call in seconds"},
	{"api_ca_file", TEXT, AT(api_ca_file), NULL, NULL, 0, 0, NULL, false,
	 "CA bundle for API calls; unset: the system's"},
	{"allow_http_loopback", SWITCH, AT(allow_http_loopback), NULL, "off", 0, 0, NULL, false,
	 "lets http://127.0.0.1, http://localhost and http://[::1] pass where https is required"},
	{"allow_http_hosts", LIST, AT(allow_http_hosts), NULL, NULL, 0, 0, NULL, false,
	 "host names for which plain http is accepted"},
};
#define ROWS (sizeof rows / sizeof *rows)

static const struct row *row_find(const char *name, size_t len)
{
	for (size_t i = 0; i < ROWS; i++)
		if (strlen(rows[i].name) == len && strncmp(rows[i].name, name, len) == 0)
			return &rows[i];
	return NULL;
}

/* --- The sources. ------------------------------------------------------------------------------------------------------- */

/* What the file says of single queues. Which queues there are is known only when all sources have spoken. */
struct sections {
	struct {
		struct queue_settings says;
		char place[PLACE_MAX];
		bool named; /* the file itself or the default names the queue: then another source may leave it out */
	} of[QUEUES_MAX];
	size_t n;
};

struct loading {
	struct settings s;
	struct sections sections;
	char place[ROWS][PLACE_MAX]; /* where each value came from, for checks that come at the end */
};

static int apply(struct loading *l, const struct row *row, const char *value, const char *place, struct error *err)
{
	if (row_set(row, &l->s, value, err))
		return error_prefix(err, "%s", place);
	snprintf(l->place[row - rows], sizeof l->place[0], "%s", place);
	if (row->where == AT(admin_listen) && row->kind == TEXT && strcmp(place, "default") != 0)
		l->s.admin_listen_set = true;
	return 0;
}

static int apply_defaults(struct loading *l, struct error *err)
{
	for (size_t i = 0; i < ROWS; i++)
		if (rows[i].fallback && apply(l, &rows[i], rows[i].fallback, "default", err))
			return -1;
	return 0;
}

static int no_memory(const char *path, struct error *err)
{
	return error_set(err, ERR_MEMORY, "out of memory for the name %s", path);
}

/* file, variable: NULL where there is none. */
static int remember_secret(struct settings *s, const struct row *row, const char *file, const char *variable,
			   struct error *err)
{
	struct secret *secret = &s->secrets[s->nsecrets];

	if (s->nsecrets == SECRETS_MAX)
		return 0;
	s->nsecrets++;
	*secret = (struct secret){row->name, file ? strdup(file) : NULL, variable ? strdup(variable) : NULL};
	return (file && !secret->file) || (variable && !secret->variable) ? no_memory(row->name, err) : 0;
}

/* A secret's file; one newline at the end is not part of it. variable: that names it, NULL where the settings file does. */
static int apply_secret_file(struct loading *l, const struct row *row, const char *path, const char *variable,
			     const char *place, struct error *err)
{
	char text[SECRET_MAX + 1];
	FILE *f = fopen(path, "re");
	size_t n = f ? fread(text, 1, sizeof text, f) : 0;
	bool bad = !f || ferror(f);
	int rc;

	if (f)
		fclose(f);
	if (bad)
		return error_set(err, ERR_CONFIG, "%s: cannot read %s: %s", place, path, strerror(errno));
	if (n > SECRET_MAX)
		return error_set(err, ERR_CONFIG, "%s: %s is longer than %d bytes", place, path, SECRET_MAX);
	if (n > 0 && text[n - 1] == '\n')
		n -= n > 1 && text[n - 2] == '\r' ? 2 : 1;
	text[n] = '\0';
	rc = apply(l, row, text, place, err);
	explicit_bzero(text, sizeof text);
	return rc ? rc : remember_secret(&l->s, row, path, variable, err);
}

static bool is_secret(const struct row *row, const char *value)
{
	size_t len;

	return row->secret || (row->where == AT(redis_url) && row_url_password(value, &len));
}

static int from_section(struct loading *l, const struct file_line *line, struct error *err)
{
	struct sections *all = &l->sections;
	size_t i = 0;

	while (i < all->n && strcmp(all->of[i].says.name, line->queue) != 0)
		i++;
	if (i == QUEUES_MAX || strlen(line->queue) > QUEUE_NAME_MAX)
		return error_set(err, ERR_CONFIG, "%s: queue '%s' is not among queues", line->place, line->queue);
	if (i == all->n) {
		snprintf(all->of[i].says.name, sizeof all->of[i].says.name, "%s", line->queue);
		snprintf(all->of[i].place, sizeof all->of[i].place, "%s", line->place);
		all->of[i].named = row_queue_find(&l->s, line->queue);
		all->n++;
	}
	return row_set_queue(&all->of[i].says, line->name, line->value, err) ? error_prefix(err, "%s", line->place) : 0;
}

static int join_sections(struct loading *l, struct error *err)
{
	for (size_t i = 0; i < l->sections.n; i++) {
		const struct queue_settings *says = &l->sections.of[i].says;
		struct queue_settings *q = row_queue_find(&l->s, says->name);

		if (!q && !l->sections.of[i].named)
			return error_set(err, ERR_CONFIG, "%s: queue '%s' is not among queues", l->sections.of[i].place,
					 says->name);
		if (!q)
			continue;
		q->max_concurrency = says->max_concurrency;
		q->timeout_ms = says->timeout_ms;
		q->max_attempts = says->max_attempts;
	}
	return 0;
}

static int from_file_line(void *ctx, const struct file_line *line, struct error *err)
{
	struct loading *l = ctx;
	const struct row *row = row_find(line->name, strlen(line->name));
	size_t n = strlen(line->name);

	if (line->continued && (!row || (row->kind != LIST && row->kind != QUEUES)))
		return error_set(err, ERR_CONFIG, "%s: '%s' goes on in an indented line; only lists may", line->place,
				 line->name);
	if (line->queue)
		return from_section(l, line, err);
	if (row && is_secret(row, line->value) && remember_secret(&l->s, row, l->s.file, NULL, err))
		return -1;
	if (row)
		return apply(l, row, line->value, line->place, err);
	if (n > 5 && strcmp(line->name + n - 5, "_file") == 0 && (row = row_find(line->name, n - 5)) && row->secret)
		return apply_secret_file(l, row, line->value, NULL, line->place, err);
	return error_set(err, ERR_CONFIG, "%s: '%s' is no setting; see adwumad --help", line->place, line->name);
}

static int apply_file(struct loading *l, const char *path, struct error *err)
{
	if (!path && access(DEFAULT_FILE, F_OK) != 0)
		return 0;
	path = path ? path : DEFAULT_FILE;
	l->s.file = strdup(path);
	return l->s.file ? settings_file_read(path, from_file_line, l, err) : no_memory(path, err);
}

static void env_name(const struct row *row, char out[64])
{
	size_t i;

	snprintf(out, 64, "%s%s", row->env ? "" : "ADWUMA_", row->env ? row->env : row->name);
	for (i = 0; out[i]; i++)
		out[i] = (char)toupper((unsigned char)out[i]);
}

static int apply_environment(struct loading *l, struct error *err)
{
	for (size_t i = 0; i < ROWS; i++) {
		char name[64], file_name[70], place[96];
		const char *value, *path;

		env_name(&rows[i], name);
		snprintf(file_name, sizeof file_name, "%s_FILE", name);
		value = getenv(name);
		path = rows[i].secret ? getenv(file_name) : NULL;
		if (value && *value && path && *path)
			return error_set(err, ERR_CONFIG, "environment %s and %s: both are set; one of them must go",
					 name, file_name);
		snprintf(place, sizeof place, "environment %s", value && *value ? name : file_name);
		if (value && *value) {
			if (apply(l, &rows[i], value, place, err) ||
			    (is_secret(&rows[i], value) && remember_secret(&l->s, &rows[i], NULL, name, err)))
				return -1;
		} else if (path && *path && apply_secret_file(l, &rows[i], path, file_name, place, err)) {
			return -1;
		}
	}
	return 0;
}

/* Names of ours that mean nothing: a typing error, or Kubernetes, which makes such names for services. */
static void warn_unknown(struct buf *warnings)
{
	for (char **e = environ; warnings && e && *e; e++) {
		size_t n = strcspn(*e, "=");
		bool known = strncmp(*e, "ADWUMA_", 7) != 0;

		for (size_t i = 0; i < ROWS && !known; i++) {
			char name[64];
			size_t len;

			env_name(&rows[i], name);
			len = strlen(name);
			known = strncmp(*e, name, len) == 0 &&
				(n == len || (rows[i].secret && n == len + 5 && strncmp(*e + len, "_FILE", 5) == 0));
		}
		if (!known)
			buf_printf(warnings, "environment %.*s: is no setting, ignored\n", (int)(n < 80 ? n : 80), *e);
	}
}

/* --- Flags. ------------------------------------------------------------------------------------------------------------- */

static const struct row *flag_row(const char *arg, size_t len)
{
	char name[64];

	if (len < 3 || len - 2 >= sizeof name || strncmp(arg, "--", 2) != 0)
		return NULL;
	for (size_t i = 2; i < len; i++)
		name[i - 2] = arg[i] == '-' ? '_' : arg[i] == '_' ? '-' : arg[i];
	return row_find(name, len - 2);
}

/* The value of the flag at argv[*i], which is moved to it when it stands apart. */
static int flag_value(int argc, char **argv, int *i, const char **value, struct error *err)
{
	const char *equals = strchr(argv[*i], '=');

	if (equals) {
		*value = equals + 1;
		return 0;
	}
	if (*i + 1 >= argc)
		return error_set(err, ERR_CONFIG, "%s: a value must follow", argv[*i]);
	*value = argv[++*i];
	return 0;
}

/* Everybody can read the command line in ps. value stands in arg. */
static void strike_password(char *arg, const char *value)
{
	size_t len = 0;
	const char *password = row_url_password(value, &len);

	if (password)
		memset(arg + (password - arg), '*', len);
}

/* Goes through the flags; where l is NULL only --config is looked for. What is not a setting stays in argv. */
static int walk_flags(struct loading *l, int *argc, char **argv, const char **config, struct error *err)
{
	int kept = *argc > 0 ? 1 : 0;

	for (int i = 1; i < *argc; i++) {
		size_t len = strcspn(argv[i], "=");
		bool is_config = len == 8 && strncmp(argv[i], "--config", 8) == 0;
		const struct row *row = flag_row(argv[i], len);
		const char *value = NULL;
		char place[80];

		if (strcmp(argv[i], "--") == 0) {
			while (l && i < *argc)
				argv[kept++] = argv[i++];
			break;
		}
		if (!is_config && !row) {
			if (l)
				argv[kept++] = argv[i];
			continue;
		}
		snprintf(place, sizeof place, "%.*s", (int)len, argv[i]);
		if (row && row->secret)
			return error_set(
				err, ERR_CONFIG,
				"%s: secrets have no flag (everybody could see it in ps); use the environment or a file",
				place);
		if (flag_value(*argc, argv, &i, &value, err))
			return -1;
		if (is_config)
			*config = value;
		else if (l && apply(l, row, value, place, err))
			return -1;
		else if (l)
			strike_password(argv[i], value);
	}
	if (l) {
		*argc = kept;
		argv[kept] = NULL;
	}
	return 0;
}

/* --- All together. ------------------------------------------------------------------------------------------------------- */

/* A flag and a variable bear the setting's name; a line of the file and the default do not. */
static int tell_place(const char *place, const char *name, struct error *err)
{
	if (strncmp(place, "--", 2) == 0 || strncmp(place, "environment ", 12) == 0)
		return error_prefix(err, "%s", place);
	return error_prefix(err, "%s: %s", place, name);
}

static int check_all(struct loading *l, const struct settings_rule *rules, struct error *err)
{
	const struct settings_rule *const sets[2] = {settings_checks, rules};

	settings_strip_slashes(l->s.khaya_base_url);
	settings_strip_slashes(l->s.taskingai_host);
	for (size_t i = 0; i < 2; i++)
		for (const struct settings_rule *rule = sets[i]; rule && rule->name; rule++) {
			const struct row *row = row_find(rule->name, strlen(rule->name));
			const char *value;

			memcpy(&value, (char *)&l->s + row->where, sizeof value);
			if (value && rule->check(&l->s, value, err))
				return tell_place(l->place[row - rows], rule->name, err);
		}
	return 0;
}

int settings_load(struct settings *out, int *argc, char **argv, const struct settings_rule *rules, struct buf *warnings,
		  struct error *err)
{
	struct loading l = {0};
	const char *config = NULL;

	if (walk_flags(NULL, argc, argv, &config, err) || apply_defaults(&l, err) || apply_file(&l, config, err) ||
	    apply_environment(&l, err) || walk_flags(&l, argc, argv, &config, err) || join_sections(&l, err) ||
	    check_all(&l, rules, err)) {
		settings_release(&l.s);
		return -1;
	}
	warn_unknown(warnings);
	*out = l.s;
	return 0;
}

void settings_release(struct settings *s)
{
	for (size_t i = 0; i < ROWS; i++) {
		char **field = (char **)(void *)((char *)s + rows[i].where);

		if (!row_is_string(&rows[i]))
			continue;
		if (*field)
			explicit_bzero(*field, strlen(*field));
		free(*field);
		*field = NULL;
	}
	for (size_t i = 0; i < s->nsecrets; i++) {
		free(s->secrets[i].file);
		free(s->secrets[i].variable);
	}
	s->nsecrets = 0;
	free(s->file);
	s->file = NULL;
}

/* --- Showing. ----------------------------------------------------------------------------------------------------------- */

void settings_print(const struct settings *s, FILE *to)
{
	if (s->file)
		fprintf(to, "; settings file: %s\n", s->file);
	else
		fprintf(to, "; settings file: none, there is no %s\n", DEFAULT_FILE);
	for (size_t i = 0; i < ROWS; i++) {
		fprintf(to, "%s = ", rows[i].name);
		row_print(&rows[i], s, to);
		fputc('\n', to);
	}
	for (size_t i = 0; i < s->nqueues; i++) {
		const struct queue_settings *q = &s->queues[i];

		if (!q->max_concurrency && !q->timeout_ms && !q->max_attempts)
			continue;
		fprintf(to, "\n[queue %s]\n", q->name);
		if (q->max_concurrency)
			fprintf(to, "max_concurrency = %lld\n", (long long)q->max_concurrency);
		if (q->timeout_ms)
			fprintf(to, "timeout_ms = %lld\n", (long long)q->timeout_ms);
		if (q->max_attempts)
			fprintf(to, "max_attempts = %lld\n", (long long)q->max_attempts);
	}
}

/* What may stand behind the flag. */
static const char *value_words(const struct row *row)
{
	return row->choices ? row->choices : row->kind == SWITCH ? "on|off" : "VALUE";
}

void settings_help(FILE *to)
{
	for (size_t i = 0; i < ROWS; i++) {
		char env[64], flag[64];

		env_name(&rows[i], env);
		snprintf(flag, sizeof flag, "--%s", rows[i].name);
		for (char *c = flag; *c; c++)
			if (*c == '_')
				*c = '-';
		if (rows[i].secret)
			fprintf(to, "  %s or %s_FILE (no flag: it is secret)\n", env, env);
		else
			fprintf(to, "  %s %s   or %s\n", flag, value_words(&rows[i]), env);
		fprintf(to, "      %s", rows[i].help);
		if (rows[i].fallback)
			fprintf(to, " [%s]", rows[i].fallback);
		fputc('\n', to);
	}
}

const struct secret *settings_secret(const struct settings *s, const char *setting)
{
	for (size_t i = s->nsecrets; i > 0; i--)
		if (strcmp(s->secrets[i - 1].setting, setting) == 0)
			return &s->secrets[i - 1];
	return NULL;
}

const char *settings_khaya_key(const struct settings *s, const char *own)
{
	const char *key = own && *own ? own : s->khaya_api_key;

	return key && *key ? key : NULL;
}
