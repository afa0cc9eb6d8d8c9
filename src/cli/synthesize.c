/* SPDX-License-Identifier: MIT
 *
 * synthesize: texts go to the workers, audio comes back: it stays in Redis, or is fetched into files. */
#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "base/digest.h"
#include "cli/jobs.h"
#include "cli/out.h"
#include "cli/save.h"
#include "lib/client.h"

static bool is_saved(const struct cli *cli)
{
	return cli->option[OPT_OUTPUT] || cli->option[OPT_OUTPUT_DIR];
}

/* FILE, or DIR/07.wav of the seventh of twelve in scratch. NULL: it is too long. */
static const char *output_path(const struct cli *cli, size_t i, char scratch[PATH_MAX], struct error *err)
{
	const char *format = cli->option[OPT_AUDIO_FORMAT] ? cli->option[OPT_AUDIO_FORMAT] : "wav";
	char name[40];

	if (cli->option[OPT_OUTPUT])
		return cli->option[OPT_OUTPUT];
	snprintf(name, sizeof name, "%0*zu.%s", snprintf(NULL, 0, "%zu", cli->noperands), i + 1, format);
	return jobs_path_in(cli->option[OPT_OUTPUT_DIR], name, scratch, PATH_MAX, err) ? NULL : scratch;
}

static int check(const struct cli *cli)
{
	const char *file = cli->option[OPT_OUTPUT];
	struct error err = {0};
	char scratch[PATH_MAX];

	if (!is_saved(cli) && cli->option[OPT_DIRECT])
		return cli_misused(cli->command, "--direct keeps the audio nowhere: it needs -o FILE or -d DIR");
	if (!is_saved(cli))
		return CLI_DONE;
	if (file && cli->option[OPT_OUTPUT_DIR])
		return cli_misused(cli->command, "-o and -d do not go together");
	if (file && cli->noperands > 1)
		return cli_misused(cli->command, "-o takes the audio of one TEXT only; -d DIR takes that of several");
	if (cli->option[OPT_NO_WAIT])
		return cli_misused(cli->command, "-%c waits for the audio, so it does not go with --no-wait",
				   file ? 'o' : 'd');
	if (file && cli->option[OPT_JSON] && strcmp(file, "-") == 0)
		return cli_misused(cli->command, "-o - and --json both want standard output");
	for (size_t i = 0; i < cli->noperands; i++) {
		const char *path = output_path(cli, i, scratch, &err);

		if (!path || save_check(path, &err))
			return jobs_usage_failure(cli, &err);
	}
	return CLI_DONE;
}

static int write_job(struct work *w, const char *operand, const char *id, struct buf *out)
{
	(void)id;
	jobs_write_member(out, "language", jobs_language(w->cli));
	jobs_write_member(out, "speaker", w->cli->option[OPT_SPEAKER]);
	jobs_write_member(out, "format", w->cli->option[OPT_AUDIO_FORMAT]);
	return jobs_write_text(w, operand, out);
}

/* Checks the audio against what the result says of it, and saves it. */
static int save_audio(const struct cli *cli, size_t i, const struct audio_facts *facts, const char *bytes, size_t len)
{
	char hash[SHA256_HEX_LEN + 1], scratch[PATH_MAX];
	struct error err = {0};
	const char *path = output_path(cli, i, scratch, &err);

	sha256_hex(bytes, len, hash);
	if (*facts->sha256 && strcmp(facts->sha256, hash) != 0) {
		say("the audio in %s is not the one that the result describes", facts->key);
		return CLI_JOB_FAILED;
	}
	if (!path || save_bytes(path, bytes, len, &err)) {
		say("%s\n  the audio stays in Redis as %s until it expires", err.msg, facts->key);
		return CLI_JOB_FAILED;
	}
	return CLI_DONE;
}

static int fetch_audio(struct work *w, size_t i, const struct result *r)
{
	struct adwuma_error failed = {0};
	struct audio_facts facts;
	char *bytes = NULL;
	size_t len = 0;
	int rc;

	if (result_audio(r, &facts)) {
		say("the result names no audio key; see it with adwuma result --json");
		return CLI_JOB_FAILED;
	}
	if (adwuma_get_audio(w->client, facts.key, &bytes, &len, &failed)) {
		rc = say_error(&failed);
		return rc == CLI_UNREACHABLE ? rc : CLI_JOB_FAILED;
	}
	rc = save_audio(w->cli, i, &facts, bytes, len);
	adwuma_free(bytes);
	return rc;
}

static int save_spoken(struct work *w, size_t i)
{
	char scratch[PATH_MAX];
	struct error err = {0};
	const char *path = output_path(w->cli, i, scratch, &err);

	if (path && save_bytes(path, buf_cstr(&w->spoken.audio), w->spoken.audio.len, &err) == 0)
		return CLI_DONE;
	say("%s", err.msg);
	return CLI_JOB_FAILED;
}

static int finish(struct work *w, size_t i, const char *json)
{
	struct result r;
	int rc = jobs_show(w, i, json);

	if (rc == CLI_DONE && w->direct)
		return save_spoken(w, i);
	if (rc == CLI_DONE && is_saved(w->cli))
		rc = result_read(&r, json) ? CLI_JOB_FAILED : fetch_audio(w, i, &r);
	return rc;
}

int cli_synthesize(const struct cli *cli)
{
	static const struct trade synthesize = {.type = "synthesize",
						.check = check,
						.write = write_job,
						.finish = finish};

	return jobs_run(cli, &synthesize);
}
