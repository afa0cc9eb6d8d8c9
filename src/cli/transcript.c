/* SPDX-License-Identifier: MIT
 *
 * See transcript.h. */
#include "cli/transcript.h"

#include <string.h>

#include "base/pick.h"
#include "cli/subtitles.h"

static int render_text(const struct result *r, struct buf *out, struct error *err)
{
	struct want want[] = {{"text", {0}}};

	if (!r->result.ptr || pick(r->result, want, 1) || !want[0].value.ptr)
		return error_set(err, ERR_INVALID, "the result holds no text");
	pick_readable(want[0].value, out);
	buf_char(out, '\n');
	return 0;
}

static int render_json(const struct result *r, struct buf *out, struct error *err)
{
	if (!r->result.ptr)
		return error_set(err, ERR_INVALID, "the result is empty");
	buf_add(out, r->result.ptr, r->result.len);
	buf_char(out, '\n');
	return 0;
}

static int render_subtitles(const struct result *r, enum subtitles_format format, struct buf *out, struct error *err)
{
	struct json *result = r->result.ptr ? json_parse(r->result.ptr, r->result.len) : NULL;
	const struct json *timings = json_get(result, "timings");
	int rc;

	if (json_type(timings) == JSON_OBJECT)
		rc = subtitles_write(timings, format, out, err);
	else /* though they were asked for */
		rc = error_set(
			err, ERR_INVALID,
			"the result has no timings to make subtitles of; version v1 of the recognition API gives none");
	json_free(result);
	return rc;
}

static int render_srt(const struct result *r, struct buf *out, struct error *err)
{
	return render_subtitles(r, SUBTITLES_SRT, out, err);
}

static int render_vtt(const struct result *r, struct buf *out, struct error *err)
{
	return render_subtitles(r, SUBTITLES_VTT, out, err);
}

/* The first is what is chosen without --format. */
static const struct transcript_format formats[] = {
	{"text", "txt", render_text, false},
	{"json", "json", render_json, false},
	{"srt", "srt", render_srt, true},
	{"vtt", "vtt", render_vtt, true},
};

const struct transcript_format *transcript_format(const char *name)
{
	for (size_t i = 0; name && i < sizeof formats / sizeof *formats; i++)
		if (strcmp(formats[i].name, name) == 0)
			return &formats[i];
	return &formats[0];
}
