/* SPDX-License-Identifier: MIT
 *
 * The command line: what main.c, the commands and their helpers share.
 *
 * A command is a row of the table in main.c: which options it takes is a set of bits, the options themselves are one
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
	OPT_WAIT,
	OPT_NO_WAIT,
	OPT_PAIR,
	OPT_LANGUAGE,
	OPT_SPEAKER,
	OPT_TIMESTAMPS,
	OPT_FORMAT,
	OPT_OUTPUT,
	OPT_JSON,
	CLI_OPTIONS
};
#define TAKES(option) (1U << (option))

struct command;

struct cli {
	const struct command *command;
	const struct settings *settings;
	const char *option[CLI_OPTIONS]; /* its value, "" of a switch; NULL: not given */
	char **operands;		 /* borrowed from argv */
	size_t noperands;
};

struct command {
	const char *name;
	const char *operands; /* as in the usage line */
	const char *summary;
	unsigned options; /* TAKES() */
	size_t min_operands, max_operands;
	int (*run)(const struct cli *cli);
	const char *about; /* paragraphs of its help */
	const char *examples;
};

/* options.c. argv[0] is the command's name; argv is put in order: operands come to the front. Returns CLI_DONE or
 * CLI_USAGE (told). */
int cli_parse(struct cli *cli, int argc, char **argv);
/* The seconds of a time option in ms. Returns CLI_DONE or CLI_USAGE (told). */
int cli_time_ms(const struct cli *cli, enum cli_option option, int64_t otherwise_ms, int64_t *out_ms);
/* Tells that the command was used wrongly, and how it is used. Returns CLI_USAGE. */
int cli_misused(const struct command *command, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void cli_print_usage(const struct command *command, FILE *to);
void cli_print_help(const struct command *command, FILE *to);

/* The commands. */
int cli_translate(const struct cli *cli);
int cli_transcribe(const struct cli *cli);
int cli_synthesize(const struct cli *cli);
int cli_submit(const struct cli *cli);
int cli_result(const struct cli *cli);
int cli_stats(const struct cli *cli);

#endif
