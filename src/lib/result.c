/* SPDX-License-Identifier: MIT */
#include "lib/result.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/digest.h"
#include "base/pick.h"
#include "lib/inside.h"

#define FAULT_TEXTS 6
#define AUDIO_KEY_MAX KEY_MAX

/* What was asked for. Most results of many are asked for little, so the rest is not made. */
struct result_parts {
	char *text, *value;
	struct adwuma_fault *fault;
	char *fault_texts[FAULT_TEXTS];
	struct buf audio;
};

/* --- Reading. ------------------------------------------------------------------------------------------------------- */

/* False where it has not the form of a result. */
static bool read_result(struct adwuma_result *r, size_t len, struct span *id)
{
	struct want want[] = {{"status", {0}}, {"result", {0}}, {"error", {0}}, {"id", {0}}};
	struct span value;
	bool whole = pick((struct span){r->json, len}, want, 4) == 0;

	r->succeeded = want[0].value.ptr && want[1].value.ptr && json_span_type(want[0].value) == JSON_STRING &&
		       json_key_is((struct span){want[0].value.ptr + 1, want[0].value.len - 2}, "succeeded");
	value = r->succeeded ? want[1].value : want[2].value;
	if (value.ptr) {
		r->value_at = (uint32_t)(value.ptr - r->json);
		r->value_len = (uint32_t)value.len & INT32_MAX;
	}
	if (id)
		*id = want[3].value;
	return whole && want[0].value.ptr && value.ptr;
}

void result_init(adwuma_result *r, char *json, size_t len, struct span *id)
{
	*r = (adwuma_result){.json = json};
	(void)read_result(r, len, id);
}

adwuma_result *result_take(char *json, size_t len)
{
	adwuma_result *r = json ? malloc(sizeof *r) : NULL;

	if (r)
		result_init(r, json, len, NULL);
	else
		free(json);
	return r;
}

adwuma_result *adwuma_result_parse(const char *json, size_t len, struct adwuma_error *err)
{
	struct error e = {0};
	struct adwuma_result *r = result_take(json ? strndup(json, len) : NULL, len);

	if (!r)
		error_set(&e, json ? ERR_MEMORY : ERR_INVALID, json ? "out of memory" : "there is no JSON");
	else if (!read_result(r, len, NULL))
		error_set(&e, ERR_INVALID, "that is no result: it has neither a result nor an error");
	if (e.code == ERR_NONE)
		return r;
	adwuma_result_free(r);
	lib_tell(err, &e);
	return NULL;
}

void result_release(adwuma_result *r)
{
	struct result_parts *p = r->parts;

	for (size_t i = 0; p && i < FAULT_TEXTS; i++)
		free(p->fault_texts[i]);
	if (p) {
		free(p->fault);
		free(p->text);
		free(p->value);
		buf_release(&p->audio);
	}
	free(p);
	free(r->json);
}

void adwuma_result_free(adwuma_result *result)
{
	if (!result)
		return;
	result_release(result);
	free(result);
}

/* What is made when it is first asked for changes nothing that a caller could see. NULL: no memory. */
static struct result_parts *parts_of(const adwuma_result *result)
{
	struct adwuma_result *r = (struct adwuma_result *)(uintptr_t)result;

	if (!r->parts)
		r->parts = calloc(1, sizeof *r->parts);
	return r->parts;
}

void result_set_audio(adwuma_result *r, struct buf *audio)
{
	struct result_parts *p = audio->len > 0 ? parts_of(r) : NULL;

	if (!p)
		return;
	p->audio = *audio;
	*audio = (struct buf){0};
}

static struct span value_of(const adwuma_result *r)
{
	return r->value_len > 0 ? (struct span){r->json + r->value_at, r->value_len} : (struct span){0};
}

/* --- Asking. -------------------------------------------------------------------------------------------------------- */

int adwuma_succeeded(const adwuma_result *result)
{
	return result && result->succeeded;
}

const char *adwuma_result_json(const adwuma_result *result)
{
	return result ? result->json : NULL;
}

const char *adwuma_result_value(const adwuma_result *result)
{
	struct result_parts *p = result && result->succeeded ? parts_of(result) : NULL;

	if (p && !p->value)
		p->value = strndup(result->json + result->value_at, result->value_len);
	return p ? p->value : NULL;
}

/* A string's characters, returned owned; NULL where it is absent or none. */
static char *decode(struct span v)
{
	struct buf text = BUF_INIT(PICK_TEXT_MAX);
	bool is_text = v.ptr && json_span_type(v) == JSON_STRING && json_span_string(v, &text);
	char *out = is_text && !text.failed ? strdup(buf_cstr(&text)) : NULL;

	buf_release(&text);
	return out;
}

static struct span member(struct span v, const char *name)
{
	struct want want[] = {{name, {0}}};

	if (v.ptr)
		(void)pick(v, want, 1);
	return want[0].value;
}

/* A text of Khaya's; what a model said; a message, whose content is an object. */
const char *adwuma_result_text(const adwuma_result *result)
{
	struct result_parts *p = result && result->succeeded ? parts_of(result) : NULL;
	struct span data, content;

	if (!p || p->text)
		return p ? p->text : NULL;
	p->text = decode(member(value_of(result), "text"));
	if (p->text)
		return p->text;
	data = member(value_of(result), "data");
	content = member(member(data, "message"), "content");
	if (!content.ptr)
		content = member(data, "content");
	p->text = decode(content.ptr && json_span_type(content) == JSON_OBJECT ? member(content, "text") : content);
	return p->text;
}

const struct adwuma_fault *adwuma_result_fault(const adwuma_result *result)
{
	struct result_parts *r = !result || result->succeeded ? NULL : parts_of(result);
	struct want want[] = {{"type", {0}},	    {"message", {0}}, {"code", {0}},	    {"details", {0}},
			      {"activity_id", {0}}, {"service", {0}}, {"status_code", {0}}, {"retryable", {0}}};
	int64_t status = 0;

	if (!r || r->fault)
		return r ? r->fault : NULL;
	r->fault = calloc(1, sizeof *r->fault);
	if (!r->fault)
		return NULL;
	if (result->value_len > 0)
		(void)pick(value_of(result), want, sizeof want / sizeof *want);
	for (size_t i = 0; i < FAULT_TEXTS; i++)
		r->fault_texts[i] = decode(want[i].value);
	if (want[3].value.ptr)
		r->fault_texts[3] = strndup(want[3].value.ptr, want[3].value.len);
	if (want[6].value.ptr)
		(void)json_span_int(want[6].value, &status);
	*r->fault = (struct adwuma_fault){
		.type = r->fault_texts[0] ? r->fault_texts[0] : "unreadable",
		.message = r->fault_texts[1] ? r->fault_texts[1] : "what stands in its place is no result",
		.code = r->fault_texts[2],
		.details = r->fault_texts[3] ? r->fault_texts[3] : "[]",
		.activity_id = r->fault_texts[4],
		.service = r->fault_texts[5],
		.status_code = (int)status,
		.retryable = want[7].value.ptr && json_span_is_true(want[7].value),
	};
	return r->fault;
}

int adwuma_result_audio(adwuma *client, const adwuma_result *result, char **bytes, size_t *len,
			struct adwuma_error *err)
{
	struct span key = member(value_of(result), "audio_key"), base64 = member(value_of(result), "audio_base64");
	const struct buf *made = result && result->parts ? &result->parts->audio : &(struct buf){0};
	struct buf audio = BUF_INIT(PICK_TEXT_MAX);
	struct error e = {0};
	char *text;
	int rc = 0;

	if (!adwuma_succeeded(result) || (made->len == 0 && !key.ptr && !base64.ptr)) {
		if (err) {
			err->code = ADWUMA_MISSING;
			snprintf(err->message, sizeof err->message, "the result has no audio");
		}
		return -1;
	}
	text = decode(key.ptr ? key : base64);
	if (made->len == 0 && key.ptr && text) {
		rc = adwuma_get_audio(client, text, bytes, len, err);
		free(text);
		return rc;
	}
	if (made->len > 0)
		buf_add(&audio, made->ptr, made->len);
	else if (!text || !base64_decode(&audio, text, strlen(text)))
		error_set(&e, ERR_INVALID, "audio_base64 is not base64");
	if (audio.failed)
		error_set(&e, ERR_MEMORY, "no memory for the audio");
	free(text);
	*len = audio.len;
	*bytes = e.code == ERR_NONE ? buf_steal(&audio) : NULL;
	buf_release(&audio);
	return e.code == ERR_NONE ? 0 : lib_tell(err, &e);
}
