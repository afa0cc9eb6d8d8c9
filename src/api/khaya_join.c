/* SPDX-License-Identifier: MIT
 *
 * Pieces of a text over Khaya's limit: what of an answer is kept, and how all of them become one result. */
#include <stdio.h>
#include <string.h>

#include "api/khaya_parts.h"
#include "audio/wav.h"

static void add_unquoted(struct buf *out, struct span plain)
{
	size_t at = out->len;

	buf_json_string(out, plain.ptr, plain.len);
	if (out->failed)
		return;
	memmove(out->ptr + at, out->ptr + at + 1, out->len - at - 2);
	buf_cut(out, out->len - 2);
}

static void find_text(void *ctx, struct span key, struct span value)
{
	if (json_key_is(key, "text"))
		*(struct span *)ctx = value;
}

/* What stood between the pieces stands between their translations. */
static void join_translation(struct job *job, const struct call *call, const struct buf *pieces, struct outcome *out)
{
	buf_lit(&out->result, "{\"text\":\"");
	for (size_t i = 0; i < call->cut.count; i++) {
		struct span text = {0};

		add_unquoted(&out->result, cut_glue(&call->cut, i));
		json_scan(pieces[i].ptr, pieces[i].len, NULL, find_text, &text);
		if (text.ptr)
			buf_add(&out->result, text.ptr + 1, text.len - 2);
	}
	add_unquoted(&out->result, cut_glue(&call->cut, call->cut.count));
	buf_char(&out->result, '"');
	khaya_add_pair(&out->result, job);
	out->kind = OUTCOME_SUCCEEDED;
}

/* What was said last, with the reason: the parts are paid for, but make no whole. */
static void unjoinable(struct outcome *out, const char *what, const struct error *err)
{
	out->kind = OUTCOME_FAILED;
	fault_set(&out->fault, khaya_input_error(JOB_SYNTHESIZE), 200, "%s: %s", what, err->msg);
}

int khaya_take_piece(struct job *job, struct outcome *out, struct buf *piece)
{
	struct wav_info wav;
	struct error err;

	if (job->type->kind == JOB_TRANSLATE) {
		buf_add(piece, out->result.ptr, out->result.len);
		return 0;
	}
	if (wav_parse(out->audio.ptr, out->audio.len, &wav, &err)) {
		unjoinable(out, "A part of the text was answered with audio that cannot be joined", &err);
		return -1;
	}
	buf_add(piece, out->audio.ptr, out->audio.len);
	return 0;
}

/* Others can write where pieces are kept, and half a piece must not become half a result. */
bool khaya_is_piece(const struct job *job, const struct buf *piece)
{
	struct buf plain = BUF_INIT(piece->len);
	struct span text = {0};
	struct wav_info wav;
	struct error err;
	bool is;

	if (piece->failed)
		return false;
	if (job->type->kind == JOB_SYNTHESIZE)
		return wav_parse(buf_cstr(piece), piece->len, &wav, &err) == 0;
	is = json_scan(buf_cstr(piece), piece->len, NULL, find_text, &text) == JSON_OK && text.ptr &&
	     json_span_type(text) == JSON_STRING && json_span_string(text, &plain) && !plain.failed;
	buf_release(&plain);
	return is;
}

static void join_speech(struct job *job, const struct buf *pieces, size_t n, struct outcome *out)
{
	struct wav_join j;
	struct error err;
	int rc = 0;

	wav_join_begin(&j, &out->audio);
	for (size_t i = 0; i < n && rc == 0; i++)
		rc = wav_join_add(&j, pieces[i].ptr, pieces[i].len, &err);
	if (rc || wav_join_end(&j, &err)) {
		buf_clear(&out->audio);
		unjoinable(out, "The parts of the text were answered, but cannot be joined", &err);
		return;
	}
	snprintf(out->audio_type, sizeof out->audio_type, "audio/wav");
	khaya_say_speech(job, out);
}

void khaya_join(struct job *job, const struct call *call, const struct buf *pieces, struct outcome *out)
{
	if (job->type->kind == JOB_TRANSLATE)
		join_translation(job, call, pieces, out);
	else
		join_speech(job, pieces, call->cut.count, out);
	if (out->kind == OUTCOME_SUCCEEDED && (out->result.failed || out->audio.failed)) {
		out->kind = OUTCOME_FAILED;
		fault_set(&out->fault, "APIError", 0, "out of memory for the joined parts");
	}
}
