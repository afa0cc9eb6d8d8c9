/* SPDX-License-Identifier: MIT
 *
 * The command line: what main.c, the commands and their helpers share.
 *
 * A command is a row of a table in commands.c: which options it takes is a set of bits, the options themselves are one
 * table in options.c. A command returns its exit code and prints its own complaints, by say().
 *
 * One thread. Results go to standard output through out.c, everything else to standard error. */
#ifndef ADWUMA_CLI_CLI_H
#define ADWUMA_CLI_CLI_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "settings/settings.h"

enum cli_exit {
	CLI_DONE = 0,
	CLI_JOB_FAILED = 1,
	CLI_USAGE = 2,
	CLI_UNREACHABLE = 69,
	CLI_TIMED_OUT = 75,
	CLI_SETTINGS = 78,
};

enum cli_option {
	OPT_QUEUE,
	OPT_TIMEOUT,
	OPT_STALL,
	OPT_WAIT,
	OPT_NO_WAIT,
	OPT_PAIR,
	OPT_LANGUAGE,
	OPT_SPEAKER,
	OPT_TIMESTAMPS,
	OPT_FORMAT,
	OPT_AUDIO_FORMAT,
	OPT_OUTPUT,
	OPT_OUTPUT_DIR,
	OPT_TYPE,
	OPT_ERROR,
	OPT_OLDER_THAN,
	OPT_NEWER_THAN,
	OPT_LIMIT,
	OPT_ALL,
	OPT_FOR,
	OPT_REASON,
	OPT_WATCH,
	OPT_JSON,
	OPT_DIRECT,
	OPT_MODEL,
	OPT_SYSTEM,
	OPT_NO_STREAM,
	OPT_PARAMS,
	OPT_FILE,
	OPT_IF_UNSURE,
	OPT_INTO,
	OPT_RETRY_FAILED,
	OPT_CSV,
	OPT_TEXT_COLUMN,
	OPT_OUT_COLUMN,
	OPT_DELIMITER,
	OPT_READY,
	CLI_OPTIONS
};
#define TAKES(option) (1ULL << (option))
#define ASKS_WORKER (1ULL << 61) /* asks a worker itself: no Redis */
#define ASKS_API (1ULL << 62)	 /* asks the API itself: no Redis, no workers */
#define LOOKS (1ULL << 63)	 /* --queue narrows down where it looks, rather than saying where jobs go */

struct command;

struct cli {
	const struct command *command;
	const struct settings *settings;
	const char *warnings; /* of the settings, one a line; told already */
	char **flags;	      /* those that are settings, as given but for passwords, struck out; up to NULL */
	const char *option[CLI_OPTIONS]; /* its value, "" of a switch; NULL: not given */
	char **operands;		 /* borrowed from argv */
	size_t noperands;
};

struct command {
	const char *name;     /* one word, or two: "dead list" */
	const char *operands; /* as in the usage line */
	const char *summary;
	uint64_t options; /* TAKES() */
	size_t min_operands, max_operands;
	int (*run)(const struct cli *cli);
	const char *about; /* paragraphs of its help */
	const char *examples;
};

/* options.c. argv[0] is the command's name; argv is put in order: operands come to the front. Returns CLI_DONE or
 * CLI_USAGE (told). */
int cli_parse(struct cli *cli, int argc, char **argv);
const char *cli_option_name(enum cli_option option); /* "retry-failed" */
/* The seconds of a time option in ms. Returns CLI_DONE or CLI_USAGE (told). */
int cli_time_ms(const struct cli *cli, enum cli_option option, int64_t otherwise_ms, int64_t *out_ms);
/* The same of an age like 90s, 10m, 2h, 7d. */
int cli_age_ms(const struct cli *cli, enum cli_option option, int64_t otherwise_ms, int64_t *out_ms);
/* A number from 1 on. */
int cli_count(const struct cli *cli, enum cli_option option, int64_t otherwise, int64_t *out);
/* Whether all operands are ids. Returns CLI_DONE or CLI_USAGE (told). */
int cli_ids(const struct cli *cli);
/* Tells that the command was used wrongly, and how it is used. Returns CLI_USAGE. */
int cli_misused(const struct command *command, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void cli_print_usage(const struct command *command, FILE *to);
void cli_print_help(const struct command *command, FILE *to);

/* commands.c. The command that words (up to NULL) begin with, and how many of them are its name; NULL when none is. */
const struct command *command_find(char *const *words, size_t *nwords);
/* The next command whose name's first of two words this is, after another (NULL: the first); NULL when there is none. */
const struct command *command_of_group(const char *word, const struct command *after);
void commands_print(FILE *to); /* one line each */

/* The commands. */
int cli_translate(const struct cli *cli);
int cli_transcribe(const struct cli *cli);
int cli_synthesize(const struct cli *cli);
int cli_chat(const struct cli *cli);
int cli_call(const struct cli *cli);
int cli_submit(const struct cli *cli);
int cli_batch(const struct cli *cli);
int cli_result(const struct cli *cli);
int cli_operations(const struct cli *cli);
int cli_languages(const struct cli *cli);
int cli_speakers(const struct cli *cli);
int cli_doctor(const struct cli *cli);
int cli_stats(const struct cli *cli);
int cli_workers(const struct cli *cli);
int cli_health(const struct cli *cli);
int cli_dead_list(const struct cli *cli);
int cli_dead_show(const struct cli *cli);
int cli_dead_retry(const struct cli *cli);
int cli_dead_purge(const struct cli *cli);
int cli_cancel(const struct cli *cli);
int cli_pause(const struct cli *cli);
int cli_resume(const struct cli *cli);

#endif
