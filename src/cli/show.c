/* SPDX-License-Identifier: MIT
 *
 * See show.h. Everything but a text is printed as the bytes that stood in the result, so numbers stay what they were.
 */
#include "cli/show.h"

#include <string.h>

#include "base/pick.h"
#include "cli/cli.h"
#include "cli/out.h"

int result_read(struct result *r, const char *json)
{
	struct want want[] = {{"id", {0}}, {"status", {0}}, {"result", {0}}, {"error", {0}}};

	*r = (struct result){.whole = {json, strlen(json)}};
	if (pick(r->whole, want, 4) || !want[1].value.ptr)
		return -1;
	r->id = want[0].value;
	r->status = want[1].value;
	r->result = want[2].value;
	r->error = want[3].value;
	return 0;
}

bool result_succeeded(const struct result *r)
{
	return json_span_type(r->status) == JSON_STRING &&
	       json_key_is((struct span){r->status.ptr + 1, r->status.len - 2}, "succeeded");
}

int result_audio(const struct result *r, struct audio_facts *out)
{
	struct want want[] = {{"audio_key", {0}}, {"sha256", {0}}};

	*out = (struct audio_facts){0};
	if (!r->result.ptr || pick(r->result, want, 2))
		return -1;
	pick_text(want[0].value, out->key, AUDIO_FACT_MAX);
	pick_text(want[1].value, out->sha256, AUDIO_FACT_MAX);
	return *out->key ? 0 : -1;
}

static void say_member(const char *label, struct span v, struct buf *text)
{
	if (v.ptr && v.len > 0)
		say("  %s: %s", label, pick_readable(v, text));
}

void say_fault(const char *what, struct span error)
{
	struct want want[] = {{"type", {0}},	{"message", {0}},     {"status_code", {0}}, {"code", {0}},
			      {"details", {0}}, {"activity_id", {0}}, {"retryable", {0}}};
	struct buf type = BUF_INIT(PICK_TEXT_MAX), text = BUF_INIT(PICK_TEXT_MAX);
	int64_t status = 0;

	if (!error.ptr || pick(error, want, 7)) {
		say("%s failed", what);
		return;
	}
	pick_readable(want[0].value, &type);
	pick_readable(want[1].value, &text);
	if (want[2].value.ptr && json_span_int(want[2].value, &status) && status != 0)
		say("%s failed: %s (%lld): %s", what, buf_cstr(&type), (long long)status, buf_cstr(&text));
	else
		say("%s failed: %s: %s", what, buf_cstr(&type), buf_cstr(&text));
	say_member("code", want[3].value, &text);
	if (want[4].value.len > 2) {
		say_member("details", want[4].value, &text);
		if (strstr(buf_cstr(&text), "UNSUPPORTED_LANGUAGE"))
			say("  which codes there are: adwuma languages");
	}
	say_member("activity id", want[5].value, &text);
	if (want[6].value.ptr && json_span_is_true(want[6].value))
		say("  the same, sent again later, could succeed");
	buf_release(&type);
	buf_release(&text);
}

static void say_job_fault(const char *id, struct span error)
{
	struct buf what = BUF_INIT(PICK_TEXT_MAX);

	buf_printf(&what, "job %s", id);
	say_fault(buf_cstr(&what), error);
	buf_release(&what);
}

static void show_text(struct span result, bool one_line)
{
	struct want want[] = {{"text", {0}}, {"audio_key", {0}}};
	struct buf text = BUF_INIT(PICK_TEXT_MAX);
	struct span v = result;

	if (result.ptr && pick(result, want, 2) == 0)
		v = want[0].value.ptr ? want[0].value : want[1].value.ptr ? want[1].value : result;
	pick_readable(v, &text);
	if (one_line)
		out_escaped_line(text.ptr, text.len);
	else
		out_line(text.ptr, text.len);
	buf_release(&text);
}

int result_show(const char *id, const char *json, enum show_form form, bool one_line)
{
	struct result r;
	bool readable_result = result_read(&r, json) == 0, ok = readable_result && result_succeeded(&r);

	if (form == SHOW_WHOLE)
		out_json_line(json, strlen(json));
	else if (ok && form == SHOW_TEXT)
		show_text(r.result, one_line);
	else if (ok && form == SHOW_RESULT)
		out_json_line(r.result.ptr, r.result.len);
	else if (one_line && form != SHOW_NOTHING)
		out_line("", 0);
	out_flush();
	if (!readable_result)
		say("job %s: what stands in its place is no result: %.200s", id, json);
	else if (!ok)
		say_job_fault(id, r.error);
	return ok ? CLI_DONE : CLI_JOB_FAILED;
}
