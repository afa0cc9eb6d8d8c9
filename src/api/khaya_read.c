/* SPDX-License-Identifier: MIT
 *
 * What an answer of Khaya AI means: classes, messages and retries as in the official SDK, and sounder ones where it lets exceptions out. */
#include <string.h>

#include "api/answer.h"
#include "api/khaya_parts.h"
#include "audio/wav.h"
#include "base/digest.h"
#include "base/utf8.h"

#define DETAILS_MAX 100 /* of an error's details; a server that sends more is not read further */

static const int retried_statuses[] = {429, 500, 502, 503, 504};

/* --- Errors. ------------------------------------------------------------------------------------------------------------ */

/* Members that are no object are skipped; known members are kept as text. */
static void set_details(struct fault *f, const struct json *details)
{
	static const char *const names[] = {"code", "target", "message"};
	size_t n = 0;

	buf_clear(&f->details);
	buf_char(&f->details, '[');
	for (const struct json *d = json_first(details); d && n < DETAILS_MAX; d = json_next(d)) {
		if (json_type(d) != JSON_OBJECT)
			continue;
		buf_str_add(&f->details, n++ ? ",{" : "{");
		for (size_t i = 0; i < 3; i++) {
			buf_printf(&f->details, "%s\"%s\":", i ? "," : "", names[i]);
			buf_json_cstr(&f->details, json_text(json_get(d, names[i])));
		}
		buf_char(&f->details, '}');
	}
	buf_char(&f->details, ']');
}

/* One that is missing or empty says nothing: then the status does. */
static void set_message(struct fault *f, const struct json *message)
{
	answer_set_text(&f->message, message);
	if (f->message.len == 0)
		buf_printf(&f->message, "HTTP %d", f->status_code);
}

static void read_envelope(struct fault *f, const struct json *body)
{
	const struct json *error = json_get(body, "error");
	bool service = json_type(error) == JSON_OBJECT;
	const struct json *source = service ? error : body, *id = json_get(body, "activityId");

	set_message(f, json_get(source, "message"));
	answer_set_text(&f->code, json_get(source, "code"));
	if (service && json_type(json_get(error, "details")) == JSON_ARRAY)
		set_details(f, json_get(error, "details"));
	answer_set_text(&f->activity_id, json_type(id) != JSON_NULL ? id : json_get(error, "activityId"));
}

static void read_error_body(struct fault *f, const struct http_response *resp)
{
	struct json *body = json_parse(buf_cstr(&resp->body), resp->body.len);
	struct span text = answer_trimmed(&resp->body);

	if (!body)
		answer_say_page(f, resp);
	else if (json_type(body) == JSON_OBJECT)
		read_envelope(f, body);
	else if (json_text(body))
		set_message(f, body);
	else
		answer_add_cut(&f->message, text.ptr, text.len);
	json_free(body);
}

static bool is_retried(long status)
{
	for (size_t i = 0; i < sizeof retried_statuses / sizeof *retried_statuses; i++)
		if (retried_statuses[i] == status)
			return true;
	return false;
}

/* A quota comes back by itself; other reasons for a 403 (stopped app, challenge) do not. */
static bool is_quota(const struct fault *f)
{
	return f->status_code == 403 && (strstr(buf_cstr(&f->message), "Out of call volume quota") ||
					 strstr(buf_cstr(&f->message), "Out of bandwidth quota"));
}

static void read_failure(const struct http_response *resp, struct outcome *out)
{
	struct fault *f = &out->fault;
	bool again = is_retried(resp->status);

	fault_set(f,
		  resp->status == 401	? "AuthenticationError"
		  : resp->status == 429 ? "RateLimitError"
					: "APIError",
		  (int)resp->status, "%s", "");
	read_error_body(f, resp);
	if (resp->status == 429 && *resp->retry_after)
		buf_printf(&f->message, " (Retry-After: %ss)", resp->retry_after);
	f->retryable = again || is_quota(f);
	out->kind = again ? OUTCOME_RETRY : OUTCOME_FAILED;
	out->retry_after_ms = again ? answer_retry_after_ms(resp->retry_after) : RETRY_AFTER_NONE;
	out->nothing_done = resp->status == 429 || resp->status == 423 || strstr(buf_cstr(&f->message), "is locked");
}

static void read_transport(const struct http_response *resp, struct outcome *out)
{
	bool again = resp->end != HTTP_REFUSED && resp->end != HTTP_TOO_LARGE;

	fault_set(&out->fault, "APIError", 0, "Transport error: %s", resp->fault);
	out->fault.retryable = again;
	out->kind = again ? OUTCOME_RETRY : OUTCOME_FAILED;
	out->unclear = resp->sent;
}

/* An answer with success status that is not what it should be: never tried again, as in the SDK. */
static void not_expected(struct outcome *out, const char *type, const struct http_response *resp, const char *expected,
			 const char *unknown)
{
	struct buf snippet = BUF_INIT(SNIPPET_POINTS * 8);

	utf8_snippet(&snippet, buf_cstr(&resp->body), resp->body.len, SNIPPET_POINTS);
	out->kind = OUTCOME_FAILED;
	fault_set(&out->fault, type, (int)resp->status, "Expected %s but received '%s': %s", expected,
		  *resp->content_type ? resp->content_type : unknown, buf_cstr(&snippet));
	buf_release(&snippet);
}

/* --- Successes. --------------------------------------------------------------------------------------------------------- */

/* An error envelope that came with a success status (the SDK takes it for a result). */
static bool read_hidden_error(const struct json *body, const struct http_response *resp, struct outcome *out)
{
	if (json_type(json_get(body, "error")) != JSON_OBJECT)
		return false;
	fault_set(&out->fault, "APIError", (int)resp->status, "%s", "");
	read_envelope(&out->fault, body);
	out->kind = OUTCOME_FAILED;
	return true;
}

void khaya_unexpected_json(const struct http_response *resp, struct outcome *out)
{
	struct buf snippet = BUF_INIT(SNIPPET_POINTS * 8);

	utf8_snippet(&snippet, buf_cstr(&resp->body), resp->body.len, SNIPPET_POINTS);
	out->kind = OUTCOME_FAILED;
	fault_set(&out->fault, "APIError", (int)resp->status, "Unexpected JSON in a success response: %s",
		  buf_cstr(&snippet));
	buf_release(&snippet);
}

static bool read_refusal(const struct http_response *resp, struct outcome *out)
{
	if (resp->end != HTTP_ANSWERED)
		read_transport(resp, out);
	else if (resp->status >= 400)
		read_failure(resp, out);
	return resp->end != HTTP_ANSWERED || resp->status >= 400;
}

struct json *khaya_read_json(const struct http_response *resp, struct outcome *out)
{
	struct json *body;

	if (read_refusal(resp, out))
		return NULL;
	body = json_parse(buf_cstr(&resp->body), resp->body.len);
	if (body && !read_hidden_error(body, resp, out))
		return body;
	if (!body)
		not_expected(out, "APIError", resp, "a JSON response", "unknown");
	json_free(body);
	return NULL;
}

/* A lone surrogate is JSON by its grammar but no text, and strict readers refuse the whole result for it. Escaped surrogates are rare: only
 * what holds one is decoded and written again. */
static void add_text(struct buf *out, struct span text)
{
	struct json *decoded;

	if (!memmem(text.ptr, text.len, "\\ud", 3) && !memmem(text.ptr, text.len, "\\uD", 3)) {
		buf_add(out, text.ptr, text.len);
		return;
	}
	decoded = json_parse(text.ptr, text.len);
	buf_json_cstr(out, json_text(decoded));
	json_free(decoded);
}

/* The answer is one JSON string. It is copied as it stands: nothing is decoded and written again. */
static void read_translation(struct job *job, const struct http_response *resp, struct outcome *out)
{
	struct buf repaired = BUF_INIT(resp->body.len * 3 + 1);
	struct span text = answer_trimmed(&resp->body);
	enum json_type type = JSON_NULL;
	enum json_verdict verdict = json_scan(text.ptr, text.len, &type, NULL, NULL);

	if (verdict == JSON_NOT_UTF8) {
		utf8_repair(&repaired, text.ptr, text.len);
		text = (struct span){repaired.ptr, repaired.len};
	}
	if (verdict == JSON_BROKEN || verdict == JSON_TOO_DEEP) {
		not_expected(out, "APIError", resp, "a JSON response", "unknown");
	} else if (type != JSON_STRING) {
		struct json *body = json_parse(text.ptr, text.len);

		if (!read_hidden_error(body, resp, out))
			khaya_unexpected_json(resp, out);
		json_free(body);
	} else {
		out->kind = OUTCOME_SUCCEEDED;
		buf_lit(&out->result, "{\"text\":");
		add_text(&out->result, text);
		khaya_add_pair(&out->result, job);
	}
	buf_release(&repaired);
}

static void add_warnings(struct buf *out, const struct json *warnings)
{
	size_t n = 0;

	buf_lit(out, ",\"warnings\":[");
	if (json_text(warnings))
		buf_json_cstr(out, json_text(warnings));
	for (const struct json *w = json_type(warnings) == JSON_ARRAY ? json_first(warnings) : NULL; w;
	     w = json_next(w)) {
		if (!json_text(w))
			continue;
		buf_str_add(out, n++ ? "," : "");
		buf_json_cstr(out, json_text(w));
	}
	buf_char(out, ']');
}

static void add_timing_list(struct buf *out, const struct json *list, const char *name, const char *label)
{
	size_t n = 0;

	buf_printf(out, ",\"%s\":[", name);
	for (const struct json *t = json_type(list) == JSON_ARRAY ? json_first(list) : NULL; t; t = json_next(t)) {
		double start, end;

		/* An entry without its parts cannot be used by anybody. */
		if (!json_double(json_get(t, "start"), &start) || !json_double(json_get(t, "end"), &end) ||
		    !json_text(json_get(t, label)))
			continue;
		buf_printf(out, "%s{\"%s\":", n++ ? "," : "", label);
		buf_json_cstr(out, json_text(json_get(t, label)));
		buf_lit(out, ",\"start\":");
		buf_json_double(out, start, 6);
		buf_lit(out, ",\"end\":");
		buf_json_double(out, end, 6);
		buf_char(out, '}');
	}
	buf_char(out, ']');
}

static void add_timings(struct buf *out, const struct json *timings)
{
	const char *unit = json_text(json_get(timings, "unit")),
		   *granularity = json_text(json_get(timings, "granularity"));

	buf_lit(out, ",\"timings\":");
	if (json_type(timings) != JSON_OBJECT || json_count(timings) == 0) {
		buf_lit(out, "null");
		return;
	}
	buf_lit(out, "{\"unit\":");
	buf_json_cstr(out, unit ? unit : "seconds");
	buf_lit(out, ",\"granularity\":");
	buf_json_cstr(out, granularity ? granularity : "");
	add_timing_list(out, json_get(timings, "words"), "words", "word");
	add_timing_list(out, json_get(timings, "segments"), "segments", "text");
	buf_char(out, '}');
}

static void add_transcription(struct buf *out, struct job *job, const struct json *body, const char *text)
{
	buf_lit(out, "{\"text\":");
	buf_json_cstr(out, text);
	buf_lit(out, ",\"language\":");
	buf_json_cstr(out, job_string(job, JOB_LANGUAGE, "twi"));
	add_warnings(out, json_get(body, "warnings"));
	add_timings(out, json_get(body, "timings"));
	buf_char(out, '}');
}

/* A string is the form of v1, an object that of v2 and v3; either may come from any version. In an object no text is an empty one. */
static void read_transcription(struct job *job, const struct http_response *resp, struct outcome *out)
{
	struct json *body = khaya_read_json(resp, out);
	const struct json *said = json_type(body) == JSON_OBJECT ? json_get(body, "text") : body;
	const char *text = json_type(body) == JSON_OBJECT && json_type(said) == JSON_NULL ? "" : json_text(said);

	if (!body)
		return;
	out->kind = OUTCOME_SUCCEEDED;
	if (text)
		add_transcription(&out->result, job, body, text);
	else
		khaya_unexpected_json(resp, out);
	json_free(body);
}

static bool looks_like_page(const struct buf *b)
{
	struct span s = answer_trimmed(b);

	return s.len > 0 && (s.ptr[0] == '<' || s.ptr[0] == '{');
}

static void read_no_speech(const struct http_response *resp, struct outcome *out)
{
	struct json *body = json_parse(buf_cstr(&resp->body), resp->body.len);

	if (!read_hidden_error(body, resp, out))
		not_expected(out, "TTSGenerationError", resp, "audio", "an unknown content type");
	json_free(body);
}

/* The SDK also takes an empty body and a page that call themselves audio; nobody is helped by either. */
static void read_speech(struct job *job, const struct http_response *resp, struct outcome *out)
{
	bool riff = resp->body.len >= 4 && memcmp(resp->body.ptr, "RIFF", 4) == 0;
	bool audio =
		strncmp(resp->content_type, "audio/", 6) == 0 && resp->body.len > 0 && !looks_like_page(&resp->body);
	struct error err;

	if (!riff && !audio) {
		read_no_speech(resp, out);
		return;
	}
	snprintf(out->audio_type, sizeof out->audio_type, "%s", audio ? resp->content_type : "audio/wav");
	buf_add(&out->audio, resp->body.ptr, resp->body.len);
	if (riff)
		(void)wav_repair(&out->audio, &err); /* of a streamed file; what cannot be mended stays as it came */
	khaya_say_speech(job, out);
}

/* en-tw-x is en to tw-x: the pair is cut at its first hyphen, and echoed as it was given. */
void khaya_add_pair(struct buf *out, struct job *job)
{
	const char *pair = job_string(job, JOB_LANGUAGE_PAIR, "en-tw");
	size_t n = strcspn(pair, "-");
	const char *target = pair[n] ? pair + n + 1 : "";

	buf_lit(out, ",\"source_language\":");
	buf_json_string(out, pair, n);
	buf_lit(out, ",\"target_language\":");
	buf_json_cstr(out, target);
	buf_char(out, '}');
}

/* out->audio and its type are there. */
void khaya_say_speech(struct job *job, struct outcome *out)
{
	char sum[SHA256_HEX_LEN + 1];

	sha256_hex(out->audio.ptr, out->audio.len, sum);
	out->kind = OUTCOME_SUCCEEDED;
	buf_lit(&out->result, "{\"language\":");
	buf_json_cstr(&out->result, job_string(job, JOB_LANGUAGE, ""));
	buf_lit(&out->result, ",\"content_type\":");
	buf_json_cstr(&out->result, out->audio_type);
	buf_printf(&out->result, ",\"bytes\":%zu,\"sha256\":\"%s\"}", out->audio.len, sum);
}

void khaya_read(const struct khaya *k, struct job *job, const struct http_response *resp, struct outcome *out)
{
	static void (*const read[KHAYA_KINDS])(struct job *, const struct http_response *,
					       struct outcome *) = {[JOB_TRANSLATE] = read_translation,
								    [JOB_TRANSCRIBE] = read_transcription,
								    [JOB_SYNTHESIZE] = read_speech};

	(void)k;
	if (!read_refusal(resp, out))
		read[job->type->kind](job, resp, out);
	if (out->kind == OUTCOME_SUCCEEDED && (out->result.failed || out->audio.failed)) {
		out->kind = OUTCOME_FAILED;
		fault_set(&out->fault, "APIError", (int)resp->status, "out of memory for a response of %zu bytes",
			  resp->body.len);
	}
}
