/* SPDX-License-Identifier: MIT
 *
 * adwuma: from arguments to a command, and help. Settings are read before the command's own arguments, so their flags
 * may stand anywhere. */
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "cli/cli.h"
#include "cli/out.h"
#include "lib/client.h"

#define WARNINGS_MAX (64 * 1024)

/* --- Help. -------------------------------------------------------------------------------------------------------- */

static void print_overview(FILE *to)
{
	fprintf(to, "adwuma: hand jobs to the workers and get their results.\n\n"
		    "usage: adwuma COMMAND [--SETTING VALUE]... [OPTION]... [ARGUMENT]...\n\n");
	commands_print(to);
	fprintf(to,
		"\n  %-11s %-9s %s\n"
		"  --version\n\n"
		"Redis is looked for at --redis-url, else ADWUMA_REDIS_URL, else redis_url in --config FILE or\n"
		"/etc/adwuma/adwumad.conf, else at redis://127.0.0.1:6379/0. All settings: adwuma help settings\n\n"
		"Results go to standard output, everything else to standard error. Exit codes: 0 done,\n"
		"1 a job failed or what was asked for cannot be written, 2 wrong use, 69 Redis (or the API, where\n"
		"it is asked) cannot be reached, 75 no result in time, 78 bad settings.\n\n"
		"Examples:\n"
		"  adwuma translate 'Good morning'\n"
		"  adwuma synthesize 'Maakye' -o maakye.wav\n"
		"  adwuma transcribe maakye.wav\n",
		"help", "COMMAND", "more about a command, with examples");
}

static bool comes_later(const char *name)
{
	static const char *const later[] = {"dashboard"};

	for (size_t i = 0; i < sizeof later / sizeof *later; i++)
		if (strcmp(name, later[i]) == 0)
			return true;
	return false;
}

static int unknown_command(const char *name)
{
	const struct command *command = command_of_group(name, NULL);

	if (*name == '-')
		say("%s: unknown flag in place of a command", name);
	else if (comes_later(name))
		say("%s: this command comes later; this version does not have it", name);
	else if (!command)
		say("there is no command '%s'", name);
	else
		say("%s: which? One of these must follow it", name);
	if (!command)
		fputs("usage: adwuma COMMAND [--SETTING VALUE]... [OPTION]... [ARGUMENT]...\n", stderr);
	for (; command; command = command_of_group(name, command))
		fprintf(stderr, "usage: adwuma %s [OPTION]... %s\n", command->name, command->operands);
	fprintf(stderr, "More: adwuma help%s%s\n", command_of_group(name, NULL) ? " " : "",
		command_of_group(name, NULL) ? name : "");
	return CLI_USAGE;
}

static void print_settings_help(void)
{
	printf("Flags beat the environment, which beats the file (--config FILE, else\n"
	       "/etc/adwuma/adwumad.conf), which beats the default. adwuma and adwumad read the same\n"
	       "settings; adwuma itself needs few of them.\n\n");
	settings_help(stdout);
}

/* about: up to two words of a command's name, the first of a group's, "settings", or none; NULL behind them. */
static int help(char *const *about)
{
	size_t nwords;
	const struct command *command = command_find(about, &nwords);
	const struct command *member = command || !about[0] ? NULL : command_of_group(about[0], NULL);

	if (command) {
		cli_print_help(command, stdout);
	} else if (member) {
		for (; member; member = command_of_group(about[0], member)) {
			cli_print_help(member, stdout);
			if (command_of_group(about[0], member))
				printf("\n");
		}
	} else if (about[0] && strcmp(about[0], "settings") == 0) {
		print_settings_help();
	} else if (about[0] && strcmp(about[0], "help") != 0) {
		return unknown_command(about[0]);
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
	char *const *none = argv + argc, *const *about = none; /* argv[argc] is NULL */
	bool wanted = false;
	size_t nwords;

	if (argc > 1 && strcmp(argv[1], "help") == 0)
		return help(argc > 2 && strcmp(argv[2], "--help") != 0 ? argv + 2 : none);
	for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++) {
		if (strcmp(argv[i], "--version") == 0 && !*about) {
			out_printf("adwuma %s\n", adwuma_version());
			out_flush();
			return CLI_DONE;
		}
		wanted = wanted || strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0;
		if (!*about && (command_find(argv + i, &nwords) || command_of_group(argv[i], NULL)))
			about = argv + i;
	}
	return wanted ? help(about) : -1;
}

/* --- Running. ----------------------------------------------------------------------------------------------------- */

/* argv: the program's name and what is no setting; flags: the rest. */
static int run(const struct settings *settings, const char *warnings, char **flags, int argc, char **argv)
{
	struct cli cli = {.settings = settings, .warnings = warnings, .flags = flags};
	size_t nwords;
	int rc;

	if (argc < 2) {
		print_overview(stderr);
		return CLI_USAGE;
	}
	argv[argc] = NULL;
	cli.command = command_find(argv + 1, &nwords);
	if (!cli.command)
		return unknown_command(argv[1]);
	rc = cli_parse(&cli, argc - (int)nwords, argv + nwords);
	if (rc == CLI_DONE)
		rc = cli.command->run(&cli);
	out_flush();
	return rc;
}

/* all, up to NULL, holds what argv does and more, in the same order: only what is more is left in it. */
static void keep_flags(char **all, char *const *argv)
{
	char **to = all;

	for (; *all; all++) {
		if (*all == *argv)
			argv++;
		else
			*to++ = *all;
	}
	*to = NULL;
}

int main(int argc, char **argv)
{
	char **flags;
	struct buf warnings = BUF_INIT(WARNINGS_MAX);
	struct settings settings = {0};
	struct error err = {0};
	int rc;

	signal(SIGPIPE, SIG_IGN);
	rc = answer_about_ourselves(argc, argv);
	if (rc >= 0)
		return rc;
	flags = calloc((size_t)argc + 1, sizeof *flags);
	if (!flags) {
		say("out of memory");
		return CLI_JOB_FAILED;
	}
	memcpy(flags, argv, (size_t)argc * sizeof *flags);
	if (settings_load(&settings, &argc, argv, client_rules, &warnings, &err)) {
		say("%s", err.msg);
		rc = CLI_SETTINGS;
	} else {
		for (const char *line = buf_cstr(&warnings); *line; line += strcspn(line, "\n") + 1)
			fprintf(stderr, "adwuma: warning: %.*s\n", (int)strcspn(line, "\n"), line);
		keep_flags(flags, argv);
		rc = run(&settings, buf_cstr(&warnings), flags, argc, argv);
	}
	settings_release(&settings);
	buf_release(&warnings);
	free(flags);
	return rc;
}
