/* SPDX-License-Identifier: MIT
 *
 * adwuma: the table of commands. A new command is a row here, a function in the file of its group, and rows in
 * options.c for what options it brings. Settings are read before the command's own arguments, so their flags may stand
 * anywhere. */
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "cli/cli.h"
#include "cli/out.h"

#define WARNINGS_MAX (64 * 1024)
#define WAITING (TAKES(OPT_QUEUE) | TAKES(OPT_TIMEOUT) | TAKES(OPT_NO_WAIT) | TAKES(OPT_JSON))

static const struct command commands[] = {
	{"translate", "TEXT...", "translate texts", WAITING | TAKES(OPT_PAIR), 1, SIZE_MAX, cli_translate,
	 "Each TEXT is one job; - is all of standard input as one text, without its last line break. All\n"
	 "are submitted, then their translations are printed in this order: one text as it is; of\n"
	 "several each on one line, with its line breaks as \\n and its backslashes as \\\\, and an empty\n"
	 "line where a job failed.\n\n"
	 "Failures are told on standard error. Exit code: 0 all succeeded, 1 a job failed, 75 a result\n"
	 "did not come in time (the job goes on; see adwuma result).",
	 "  adwuma translate 'Good morning' 'How are you?'\n"
	 "  adwuma translate --pair en-ee --json 'Thank you'\n"
	 "  adwuma translate - < letter.txt > letter.tw.txt"},
	{"transcribe", "FILE...", "turn speech in audio files into text",
	 WAITING | TAKES(OPT_LANGUAGE) | TAKES(OPT_TIMESTAMPS) | TAKES(OPT_FORMAT), 1, SIZE_MAX, cli_transcribe,
	 "Each FILE is one job; - is standard input. The files travel through Redis, so the worker may\n"
	 "be on any machine; they expire there with the time that results live (result_ttl_s). All are\n"
	 "submitted, then the texts are printed in this order: one text as it is; of several each on one\n"
	 "line, with its line breaks as \\n and its backslashes as \\\\, and an empty line where a job\n"
	 "failed.\n\n"
	 "Failures are told on standard error. Exit code: 0 all succeeded, 1 a job failed, 2 a file\n"
	 "cannot be used (then nothing was submitted), 75 a result did not come in time (the job goes\n"
	 "on; see adwuma result).",
	 "  adwuma transcribe speech.wav\n"
	 "  adwuma transcribe --language twi --timestamps word --format json speech.wav"},
	{"synthesize", "TEXT...", "turn text into speech",
	 WAITING | TAKES(OPT_LANGUAGE) | TAKES(OPT_SPEAKER) | TAKES(OPT_OUTPUT), 1, SIZE_MAX, cli_synthesize,
	 "Each TEXT is one job; - is all of standard input as one text, without its last line break.\n"
	 "Without -o the names of the keys are printed that hold the audio in Redis, until their results\n"
	 "expire. With -o (one TEXT only) the audio is fetched, checked against its checksum, and put in\n"
	 "FILE's place in one step; a failed job leaves FILE untouched.\n\n"
	 "Failures are told on standard error. Exit code: 0 all succeeded, 1 a job failed, 2 FILE cannot\n"
	 "be written (then nothing was submitted), 75 a result did not come in time (the job goes on;\n"
	 "see adwuma result).",
	 "  adwuma synthesize 'Maakye' -o maakye.wav\n"
	 "  adwuma synthesize --language ewe 'Akpe' -o - | aplay"},
	{"submit", "[FILE]", "hand in jobs, one JSON object a line", TAKES(OPT_QUEUE), 0, 1, cli_submit,
	 "Reads jobs from FILE, or from standard input without it or with -, one JSON object on each\n"
	 "line; empty lines are skipped. Prints the id of each, in order; a job without \"id\" gets one.\n"
	 "Without --queue a job goes to the queue named like its \"type\" up to the first dot.\n\n"
	 "A line that is no job is told on standard error with its number, and the others go on. Exit\n"
	 "code: 0 all were accepted, 1 some lines were not, 69 Redis could not be reached (the ids\n"
	 "printed so far were accepted).",
	 "  adwuma submit jobs.jsonl > ids\n"
	 "  echo '{\"type\":\"translate\",\"text\":\"Good morning\"}' | adwuma submit"},
	{"result", "ID...", "print results, or say where their jobs are",
	 TAKES(OPT_QUEUE) | TAKES(OPT_WAIT) | TAKES(OPT_JSON), 1, SIZE_MAX, cli_result,
	 "Prints the result of each ID, in order: its text, the key of its audio, or what else its type\n"
	 "returns; the whole object with --json. Of several IDs each prints one line, with line breaks\n"
	 "as \\n and backslashes as \\\\, and an empty line where there is nothing to print. For an ID\n"
	 "without a result standard error says where the job is: waiting, delayed, running (on which\n"
	 "worker), dead, or unknown. Looks in all `queues`, or in --queue.\n\n"
	 "Exit code: 0 all results are there and succeeded, 1 a job failed, 75 none failed but a result\n"
	 "is not there: its job is under way, or unknown.",
	 "  adwuma result --wait 60 0193580be2c41f0c9a5d7e3b4a86c2f1\n"
	 "  adwuma result --json 42 43 44"},
	{"stats", "", "counts of jobs and outcomes per queue", TAKES(OPT_QUEUE) | TAKES(OPT_JSON), 0, 0, cli_stats,
	 "One line for each of `queues` (or of --queue): jobs that are ready, delayed, running and dead\n"
	 "now, live workers, and how many jobs ended in which way since the queue exists. On a terminal\n"
	 "the columns are aligned, elsewhere they are separated by tabs; with --json each queue is one\n"
	 "object.",
	 "  adwuma stats\n"
	 "  adwuma stats --json --queue translate"},
};
#define COMMANDS (sizeof commands / sizeof *commands)

static const struct command *command_find(const char *name)
{
	for (size_t i = 0; i < COMMANDS; i++)
		if (strcmp(commands[i].name, name) == 0)
			return &commands[i];
	return NULL;
}

/* --- Help. -------------------------------------------------------------------------------------------------------- */

static void print_overview(FILE *to)
{
	fprintf(to, "adwuma: hand jobs to the workers and get their results.\n\n"
		    "usage: adwuma COMMAND [--SETTING VALUE]... [OPTION]... [ARGUMENT]...\n\n"
		    "Commands:\n");
	for (size_t i = 0; i < COMMANDS; i++)
		fprintf(to, "  %-11s %-9s %s\n", commands[i].name, commands[i].operands, commands[i].summary);
	fprintf(to,
		"  %-11s %-9s %s\n"
		"  --version\n\n"
		"Redis is looked for at --redis-url, else ADWUMA_REDIS_URL, else redis_url in --config FILE or\n"
		"/etc/adwuma/adwumad.conf, else at redis://127.0.0.1:6379/0. All settings: adwuma help settings\n\n"
		"Results go to standard output, everything else to standard error. Exit codes: 0 done,\n"
		"1 a job failed, 2 wrong use, 69 Redis cannot be reached, 75 no result in time, 78 bad settings.\n\n"
		"Examples:\n"
		"  adwuma translate 'Good morning'\n"
		"  adwuma synthesize 'Maakye' -o maakye.wav\n"
		"  adwuma transcribe maakye.wav\n",
		"help", "COMMAND", "more about a command, with examples");
}

static int unknown_command(const char *name)
{
	if (*name == '-')
		say("%s: unknown flag in place of a command", name);
	else
		say("there is no command '%s'", name);
	fputs("usage: adwuma COMMAND [--SETTING VALUE]... [OPTION]... [ARGUMENT]...\nMore: adwuma help\n", stderr);
	return CLI_USAGE;
}

static int help(const char *about)
{
	const struct command *command = about ? command_find(about) : NULL;

	if (command) {
		cli_print_help(command, stdout);
	} else if (about && strcmp(about, "settings") == 0) {
		printf("Flags beat the environment, which beats the file (--config FILE, else\n"
		       "/etc/adwuma/adwumad.conf), which beats the default. adwuma and adwumad read the same\n"
		       "settings; adwuma itself needs few of them.\n\n");
		settings_help(stdout);
	} else if (about) {
		return unknown_command(about);
	} else {
		print_overview(stdout);
	}
	out_flush();
	return CLI_DONE;
}

/* Help and version need no settings: bad ones must not stand in their way. Returns the exit code, or -1 when none is
 * asked for. */
static int answer_about_ourselves(int argc, char **argv)
{
	const char *command = NULL;
	bool wanted = false;

	if (argc > 1 && strcmp(argv[1], "help") == 0)
		return help(argc > 2 && strcmp(argv[2], "--help") != 0 ? argv[2] : NULL);
	for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
		if (strcmp(argv[i], "--version") == 0 && !command) {
			out_printf("adwuma %s\n", adwuma_version());
			out_flush();
			return CLI_DONE;
		}
		wanted = wanted || strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0;
		if (!command && command_find(argv[i]))
			command = argv[i];
	}
	return wanted ? help(command) : -1;
}

/* --- Running. ----------------------------------------------------------------------------------------------------- */

/* argv: the program's name and what is no setting. */
static int run(const struct settings *settings, int argc, char **argv)
{
	struct cli cli = {.settings = settings};
	int rc;

	if (argc < 2) {
		print_overview(stderr);
		return CLI_USAGE;
	}
	cli.command = command_find(argv[1]);
	if (!cli.command)
		return unknown_command(argv[1]);
	rc = cli_parse(&cli, argc - 1, argv + 1);
	if (rc == CLI_DONE)
		rc = cli.command->run(&cli);
	out_flush();
	return rc;
}

int main(int argc, char **argv)
{
	struct buf warnings = BUF_INIT(WARNINGS_MAX);
	struct settings settings = {0};
	struct error err = {0};
	int rc;

	signal(SIGPIPE, SIG_IGN);
	rc = answer_about_ourselves(argc, argv);
	if (rc >= 0)
		return rc;
	if (settings_load(&settings, &argc, argv, NULL, &warnings, &err)) {
		say("%s", err.msg);
		rc = CLI_SETTINGS;
	} else {
		for (const char *line = buf_cstr(&warnings); *line; line += strcspn(line, "\n") + 1)
			fprintf(stderr, "adwuma: warning: %.*s\n", (int)strcspn(line, "\n"), line);
		rc = run(&settings, argc, argv);
	}
	settings_release(&settings);
	buf_release(&warnings);
	return rc;
}
