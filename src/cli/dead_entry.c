/* SPDX-License-Identifier: MIT
 *
 * See dead_entry.h. What stands in the list may come from anybody, so every form is taken and none is trusted. */
#include "cli/dead_entry.h"

#include <stdlib.h>
#include <string.h>

#include "base/pick.h"
#include "cli/out.h"
#include "lib/draft.h"

/* --- Reading. ----------------------------------------------------------------------------------------------------- */

static void read_job(struct dead_entry *e, const char *queue)
{
	struct want want[] = {{"id", {0}}, {"type", {0}}};

	if (pick(e->job, want, 2))
		return;
	if (pick_text(want[0].value, e->id, ADWUMA_ID_MAX) && !draft_is_id(e->id, strlen(e->id)))
		*e->id = '\0';
	e->can_run = *e->id != '\0' && json_scan(e->job.ptr, e->job.len, NULL, NULL, NULL) == JSON_OK;
	if (!want[1].value.ptr)
		memcpy(e->type, queue, strlen(queue) + 1);
	else
		pick_text(want[1].value, e->type, DEAD_NAME_MAX);
}

void dead_entry_read(struct dead_entry *e, const char *text, size_t len, const char *queue)
{
	struct want want[] = {{"job", {0}}, {"job_base64", {0}}, {"error", {0}}, {"died_at_ms", {0}}};
	struct want fault[] = {{"type", {0}}, {"status_code", {0}}};

	*e = (struct dead_entry){.whole = {text, len}};
	if (pick(e->whole, want, 4))
		return;
	e->base64 = !want[0].value.ptr && want[1].value.ptr;
	e->job = want[e->base64 ? 1 : 0].value;
	e->error = want[2].value;
	e->readable = e->job.ptr != NULL;
	if (want[3].value.ptr)
		(void)json_span_int(want[3].value, &e->died_at_ms);
	if (e->error.ptr && pick(e->error, fault, 2) == 0) {
		pick_text(fault[0].value, e->error_type, DEAD_NAME_MAX);
		if (fault[1].value.ptr)
			(void)json_span_int(fault[1].value, &e->status_code);
	}
	if (e->readable && json_span_type(e->job) == JSON_OBJECT)
		read_job(e, queue);
}

/* --- Choosing. ---------------------------------------------------------------------------------------------------- */

int dead_filter_init(struct dead_filter *f, const struct cli *cli, bool chosen)
{
	bool any;
	int rc;

	*f = (struct dead_filter){.ids = cli->operands, .nids = cli->noperands};
	f->type = cli->option[OPT_TYPE];
	f->error = cli->option[OPT_ERROR];
	rc = cli_ids(cli);
	if (rc == CLI_DONE)
		rc = cli_age_ms(cli, OPT_OLDER_THAN, -1, &f->older_ms);
	if (rc == CLI_DONE)
		rc = cli_age_ms(cli, OPT_NEWER_THAN, -1, &f->newer_ms);
	if (rc == CLI_DONE)
		rc = cli_count(cli, OPT_LIMIT, INT64_MAX, &f->limit);
	if (rc)
		return rc;
	any = f->nids > 0 || f->type || f->error || f->older_ms >= 0 || f->newer_ms >= 0;
	if (chosen && any == (cli->option[OPT_ALL] != NULL))
		return cli_misused(cli->command, any ? "--all does not go with IDs or filters"
						     : "which? Give IDs, a filter, or --all");
	f->met = calloc(f->nids + 1, sizeof *f->met);
	if (f->met)
		return CLI_DONE;
	say("no memory for %zu ids", f->nids);
	return CLI_JOB_FAILED;
}

void dead_filter_release(struct dead_filter *f)
{
	free(f->met);
	f->met = NULL;
}

static bool takes_id(struct dead_filter *f, const char *id)
{
	bool takes = f->nids == 0;

	for (size_t i = 0; i < f->nids && *id; i++) {
		if (strcmp(f->ids[i], id) == 0) {
			f->met[i] = true;
			takes = true;
		}
	}
	return takes;
}

bool dead_filter_takes(struct dead_filter *f, const struct dead_entry *e)
{
	int64_t age = f->now_ms - e->died_at_ms;
	bool dated = e->died_at_ms > 0;

	if (f->type && strcmp(f->type, e->type) != 0)
		return false;
	if (f->error && strcmp(f->error, e->error_type) != 0)
		return false;
	if ((f->older_ms >= 0 && (!dated || age < f->older_ms)) || (f->newer_ms >= 0 && (!dated || age > f->newer_ms)))
		return false;
	return takes_id(f, e->id);
}

int dead_filter_say_unmet(const struct dead_filter *f, const struct look *look, const struct cli *cli)
{
	bool filtered = f->type || f->error || f->older_ms >= 0 || f->newer_ms >= 0;
	int rc = CLI_DONE;

	for (size_t i = 0; i < f->nids; i++) {
		if (f->met[i])
			continue;
		say("job %s: not among the dead jobs%s", f->ids[i], filtered ? " that were asked for" : "");
		rc = CLI_JOB_FAILED;
	}
	if (rc)
		look_say_where(look, cli);
	return rc;
}
