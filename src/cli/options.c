/* SPDX-License-Identifier: MIT
 *
 * The options of all commands, one row each, and the reading of a command's arguments. Flags and operands may be mixed;
 * `--` ends the flags; `-` alone is an operand. Flags that are settings were taken out before (settings_load). */
#include <ctype.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/out.h"
#include "lib/draft.h"

#define TIME_MAX_S 31536000 /* a year */
#define COUNT_DIGITS_MAX 15

struct option_row {
	const char *name;
	char letter;	     /* 0: none */
	const char *value;   /* how it is called in help; NULL: a switch */
	bool optional;	     /* the value may be left out; one that follows must begin with a digit */
	const char *choices; /* words between '|', or NULL */
	const char *help;
	const char *looks; /* help in a command that LOOKS; NULL: the same */
};

static const struct option_row rows[CLI_OPTIONS] = {
	[OPT_QUEUE] = {.name = "queue",
		       .letter = 'q',
		       .value = "Q",
		       .help = "the queue; without it the one named like the job's type",
		       .looks = "in this queue; without it in all of the setting `queues`"},
	[OPT_TIMEOUT] = {.name = "timeout", .value = "S", .help = "wait so many seconds in all, then exit 75 [300]"},
	[OPT_STALL] = {.name = "timeout",
		       .value = "S",
		       .help = "where no result has come for so many seconds, exit 75 [300]"},
	[OPT_WAIT] = {.name = "wait",
		      .value = "S",
		      .help = "wait so many seconds in all for results that are not there yet [0]"},
	[OPT_NO_WAIT] = {.name = "no-wait", .help = "submit only, and print the id of each job"},
	[OPT_PAIR] = {.name = "pair", .value = "FROM-TO", .help = "languages [en-tw]"},
	[OPT_LANGUAGE] = {.name = "language", .value = "L", .help = "language of the speech [twi]"},
	[OPT_SPEAKER] = {.name = "speaker", .value = "S", .help = "voice; without it the API's own choice"},
	[OPT_TIMESTAMPS] = {.name = "timestamps",
			    .value = "KIND",
			    .choices = "word|segment",
			    .help = "word or segment: ask for timings; subtitles ask for segment by themselves"},
	[OPT_FORMAT] = {.name = "format",
			.value = "F",
			.choices = "text|json|srt|vtt",
			.help = "text; json: text, language, warnings, timings; srt, vtt: subtitles [text]"},
	[OPT_AUDIO_FORMAT] = {.name = "format",
			      .value = "F",
			      .choices = "wav|mp3|ogg",
			      .help = "wav, or mp3 or ogg where the workers call version v2 of the API [wav]"},
	[OPT_OUTPUT] = {.name = "output",
			.letter = 'o',
			.value = "FILE",
			.help = "fetch the audio into FILE; - is standard output"},
	[OPT_OUTPUT_DIR] = {.name = "output-dir",
			    .letter = 'd',
			    .value = "DIR",
			    .help = "write a file for each into DIR, which must be there"},
	[OPT_TYPE] = {.name = "type", .value = "T", .help = "only jobs of this type, like translate"},
	[OPT_ERROR] = {.name = "error", .value = "NAME", .help = "only those that died of this error, like APIError"},
	[OPT_OLDER_THAN] = {.name = "older-than",
			    .value = "AGE",
			    .help = "only those that died longer ago: 90s, 10m, 2h, 7d; a bare number is seconds"},
	[OPT_NEWER_THAN] = {.name = "newer-than",
			    .value = "AGE",
			    .help = "only those that died since then; in the same units"},
	[OPT_LIMIT] = {.name = "limit", .letter = 'n', .value = "N", .help = "at most so many"},
	[OPT_ALL] = {.name = "all", .help = "all of them"},
	[OPT_FOR] = {.name = "for",
		     .value = "TIME",
		     .help = "no longer than 90s, 10m, 2h, 7d (a bare number is seconds); else until resume"},
	[OPT_REASON] = {.name = "reason", .value = "TEXT", .help = "why, for those who wonder"},
	[OPT_WATCH] = {.name = "watch",
		       .value = "S",
		       .optional = true,
		       .help = "again every S seconds [1], with rates, until Ctrl-C"},
	[OPT_DIRECT] = {.name = "direct", .help = "call the API from here, without Redis and without a worker"},
	[OPT_MODEL] = {.name = "model", .letter = 'm', .value = "M", .help = "a model's id, or an assistant's"},
	[OPT_SYSTEM] = {.name = "system", .value = "TEXT", .help = "a system message before it"},
	[OPT_NO_STREAM] = {.name = "no-stream", .help = "print the answer when it is whole"},
	[OPT_PARAMS] = {.name = "params",
			.letter = 'p',
			.value = "JSON",
			.help = "the arguments, an object; @FILE reads them from there, - from standard input [{}]"},
	[OPT_FILE] = {.name = "file", .value = "FILE", .help = "what upload_file sends; it travels through Redis"},
	[OPT_IF_UNSURE] = {.name = "if-unsure",
			   .value = "DO",
			   .choices = "rerun|hold",
			   .help = "where nobody knows whether it was carried out [as the operation]"},
	[OPT_INTO] = {.name = "output",
		      .letter = 'o',
		      .value = "OUT",
		      .help = "the file (or folder) of results; what is in it already says what is done"},
	[OPT_RETRY_FAILED] = {.name = "retry-failed", .help = "do what failed in OUT once more"},
	[OPT_CSV] = {.name = "csv", .help = "IN and OUT are tables in CSV, each row a text to translate"},
	[OPT_TEXT_COLUMN] = {.name = "text-column", .value = "C", .help = "the column of the texts"},
	[OPT_OUT_COLUMN] = {.name = "out-column", .value = "C", .help = "the column of their translations"},
	[OPT_DELIMITER] = {.name = "delimiter",
			   .value = "D",
			   .help = "what stands between cells: one character, or tab [,]"},
	[OPT_READY] = {.name = "ready", .help = "ask whether it takes jobs, rather than whether it is alive"},
	[OPT_JSON] = {.name = "json", .help = "print JSON: whole objects, one a line"},
};

const char *cli_option_name(enum cli_option option)
{
	return rows[option].name;
}

/* --- Reading. ----------------------------------------------------------------------------------------------------- */

static const struct option_row *row_find(const struct command *command, const char *arg)
{
	size_t len = strcspn(arg, "=");

	for (size_t i = 0; i < CLI_OPTIONS; i++) {
		if (!(command->options & TAKES(i)))
			continue;
		if (strncmp(arg, "--", 2) == 0 && strlen(rows[i].name) == len - 2 &&
		    strncmp(arg + 2, rows[i].name, len - 2) == 0)
			return &rows[i];
		if (arg[1] != '-' && rows[i].letter && arg[1] == rows[i].letter)
			return &rows[i];
	}
	return NULL;
}

static bool is_choice(const char *choices, const char *value)
{
	size_t n = strlen(value);

	for (const char *word = choices; word; word = strchr(word, '|') ? strchr(word, '|') + 1 : NULL)
		if (strcspn(word, "|") == n && strncmp(word, value, n) == 0)
			return true;
	return false;
}

static int check_value(const struct cli *cli, const struct option_row *row, const char *value)
{
	if (row->choices && !is_choice(row->choices, value))
		return cli_misused(cli->command, "--%s must be one of %s, got '%s'", row->name, row->choices, value);
	if (row == &rows[OPT_QUEUE] && !draft_is_queue(value, strlen(value)))
		return cli_misused(cli->command, "--queue: '%s' is no queue name: 1 to %d characters of a-z 0-9 _ . -",
				   value, QUEUE_NAME_MAX);
	return CLI_DONE;
}

/* The flag at argv[*i], with its value, which may be the next argument. */
static int read_flag(struct cli *cli, int argc, char **argv, int *i)
{
	const char *arg = argv[*i], *value = "";
	const struct option_row *row = row_find(cli->command, arg);
	bool is_short = arg[1] != '-';
	const char *glued = is_short ? (arg[2] ? arg + 2 : NULL) : strchr(arg, '=') ? strchr(arg, '=') + 1 : NULL;

	if (!row)
		return cli_misused(cli->command, "unknown flag %.*s (a text that begins with - goes after --)",
				   (int)strcspn(arg, "="), arg); /* the value may be a secret */
	if (!row->value && glued)
		return cli_misused(cli->command, "--%s takes no value", row->name);
	if (row->value && !(row->optional && !glued && (*i + 1 >= argc || !isdigit((unsigned char)*argv[*i + 1])))) {
		if (!glued && *i + 1 >= argc)
			return cli_misused(cli->command, "%s: a value must follow", arg);
		value = glued ? glued : argv[++*i];
		if (check_value(cli, row, value))
			return CLI_USAGE;
	}
	cli->option[row - rows] = value;
	return CLI_DONE;
}

int cli_parse(struct cli *cli, int argc, char **argv)
{
	const struct command *command = cli->command;
	bool flags = true;

	cli->operands = argv;
	for (int i = 1; i < argc; i++) {
		if (flags && strcmp(argv[i], "--") == 0)
			flags = false;
		else if (!flags || argv[i][0] != '-' || argv[i][1] == '\0')
			cli->operands[cli->noperands++] = argv[i];
		else if (read_flag(cli, argc, argv, &i))
			return CLI_USAGE;
	}
	if (cli->noperands < command->min_operands)
		return cli_misused(command, "%s is missing", command->operands);
	if (cli->noperands > command->max_operands)
		return cli_misused(command, "too many arguments, from '%s' on", cli->operands[command->max_operands]);
	return CLI_DONE;
}

/* Seconds, or with units what the last character counts, with up to three decimals; -1 when it is no such number. */
static int64_t parse_ms(const char *s, bool units)
{
	static const struct {
		char letter;
		int64_t seconds;
	} unit[] = {{'s', 1}, {'m', 60}, {'h', 3600}, {'d', 86400}};
	int64_t ms = 0, part = 1000, times = 1;

	if (!isdigit((unsigned char)*s))
		return -1;
	for (; isdigit((unsigned char)*s); s++) {
		ms = ms * 10 + (*s - '0') * 1000;
		if (ms > TIME_MAX_S * 1000LL)
			return -1;
	}
	if (*s == '.')
		for (s++; isdigit((unsigned char)*s) && part > 1; s++)
			ms += (*s - '0') * (part /= 10);
	for (size_t i = 0; units && *s && i < sizeof unit / sizeof *unit; i++) {
		if (*s == unit[i].letter) {
			times = unit[i].seconds;
			s++;
			break;
		}
	}
	return *s || ms * times > TIME_MAX_S * 1000LL ? -1 : ms * times;
}

int cli_time_ms(const struct cli *cli, enum cli_option option, int64_t otherwise_ms, int64_t *out_ms)
{
	const char *value = cli->option[option];
	int64_t ms = value ? parse_ms(value, false) : otherwise_ms;

	if (ms < 0)
		return cli_misused(cli->command, "--%s must be a number of seconds from 0 to %d, got '%s'",
				   rows[option].name, TIME_MAX_S, value);
	*out_ms = ms;
	return CLI_DONE;
}

int cli_age_ms(const struct cli *cli, enum cli_option option, int64_t otherwise_ms, int64_t *out_ms)
{
	const char *value = cli->option[option];
	int64_t ms = value ? parse_ms(value, true) : otherwise_ms;

	if (value && ms < 0)
		return cli_misused(
			cli->command,
			"--%s must be a time like 90s, 10m, 2h or 7d (a bare number is seconds), up to 365d, got '%s'",
			rows[option].name, value);
	*out_ms = ms;
	return CLI_DONE;
}

int cli_count(const struct cli *cli, enum cli_option option, int64_t otherwise, int64_t *out)
{
	const char *value = cli->option[option];
	size_t digits = value ? strspn(value, "0123456789") : 0;

	*out = otherwise;
	if (!value)
		return CLI_DONE;
	if (digits == 0 || digits > COUNT_DIGITS_MAX || value[digits] || strtoll(value, NULL, 10) < 1)
		return cli_misused(cli->command, "--%s must be a whole number from 1 on, got '%s'", rows[option].name,
				   value);
	*out = strtoll(value, NULL, 10);
	return CLI_DONE;
}

int cli_ids(const struct cli *cli)
{
	for (size_t i = 0; i < cli->noperands; i++)
		if (!draft_is_id(cli->operands[i], strlen(cli->operands[i])))
			return cli_misused(cli->command, "'%s' is no id: 1 to %d characters of A-Z a-z 0-9 . _ : -",
					   cli->operands[i], ADWUMA_ID_MAX);
	return CLI_DONE;
}

/* --- Telling. ----------------------------------------------------------------------------------------------------- */

int cli_misused(const struct command *command, const char *fmt, ...)
{
	char text[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof text, fmt, ap);
	va_end(ap);
	say("%s: %s", command->name, text);
	cli_print_usage(command, stderr);
	fprintf(stderr, "More: adwuma help %s\n", command->name);
	return CLI_USAGE;
}

/* "[--pair FROM-TO]" */
static int usage_word(const struct option_row *row, char *out, size_t out_bytes)
{
	char name[40];

	if (row->letter == 'o' || row->letter == 'd')
		snprintf(name, sizeof name, "-%c", row->letter);
	else
		snprintf(name, sizeof name, "--%s", row->name);
	if (!row->value)
		return snprintf(out, out_bytes, " [%s]", name);
	if (row->optional)
		return snprintf(out, out_bytes, " [%s [%s]]", name, row->value);
	return snprintf(out, out_bytes, " [%s %s]", name, row->choices ? row->choices : row->value);
}

void cli_print_usage(const struct command *command, FILE *to)
{
	const char *space = *command->operands ? " " : "";
	int column = fprintf(to, "usage: adwuma %s%s%s", command->name, space, command->operands);

	for (size_t i = 0; i < CLI_OPTIONS; i++) {
		char word[100];

		if (!(command->options & TAKES(i)))
			continue;
		if (column + usage_word(&rows[i], word, sizeof word) > 94)
			column = fprintf(to, "\n             ");
		column += fprintf(to, "%s", word);
	}
	fputc('\n', to);
}

void cli_print_help(const struct command *command, FILE *to)
{
	bool asks_api = command->options & ASKS_API, asks_worker = command->options & ASKS_WORKER;
	const char *other_side = asks_api ? "the API" : asks_worker ? "the worker" : "Redis";
	const char *address = asks_api	  ? "    --khaya-base-url URL"
			    : asks_worker ? "    --admin-listen HOST:PORT"
					  : "    --redis-url URL";

	cli_print_usage(command, to);
	fprintf(to, "\n%s\n\nOptions:\n", command->about);
	for (size_t i = 0; i < CLI_OPTIONS; i++) {
		const struct option_row *row = &rows[i];
		char flag[60];

		if (!(command->options & TAKES(i)))
			continue;
		snprintf(flag, sizeof flag, "%c%c%s--%s%s%s", row->letter ? '-' : ' ', row->letter ? row->letter : ' ',
			 row->letter ? ", " : "  ", row->name, row->value ? " " : "", row->value ? row->value : "");
		fprintf(to, "  %-24s  %s\n", flag, row->looks && command->options & LOOKS ? row->looks : row->help);
	}
	fprintf(to,
		"  %-24s  where %s is; this and every other setting: adwuma help settings\n\n"
		"Exit codes of every command: 0 done, 2 wrong use, 69 %s cannot be reached, 78 bad settings.\n\n"
		"Examples:\n%s\n",
		address, other_side, other_side, command->examples);
}
