/* SPDX-License-Identifier: MIT
 *
 * Khaya AI (GhanaNLP): translation, speech recognition, speech synthesis. Semantics of the official Python SDK where it is right, and
 * sounder ones where it lets exceptions out.
 *
 * Sources: the SDK (Khaya-AI/khaya-sdk, main of 2026-08) for requests, classes, messages and retries; Azure API Management for gateway
 * bodies. Pure: bytes in, bytes out. Not repeated here: a redirect counts as an answer whose body is then not what it should be. */
#include "api/khaya.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "api/answer.h"
#include "audio/wav.h"
#include "base/digest.h"
#include "base/utf8.h"

#define TRANSLATE_MAX_POINTS 1000 /* in one request */
#define DETAILS_MAX 100		  /* of an error's details; a server that sends more is not read further */

#define VERSIONS_MAX 3

/* A version of a service. Paths follow no rule (there is no /tts/v2/tts), so none is made from another. */
struct version {
	const char *name, *path;
	const char *speaker; /* synthesis: what the voice is called there */
	bool formats;	     /* synthesis: it takes a format */
};

/* One row per service; the first of its versions is the default. */
static const struct service {
	const char *input_error; /* the class of the SDK's local checks */
	size_t own_key;		 /* setting with the service's own key */
	size_t version;		 /* setting that names one of the versions */
	struct version versions[VERSIONS_MAX];
} services[KHAYA_KINDS] = {
	[JOB_TRANSLATE] = {"TranslationError",
			   offsetof(struct settings, khaya_translation_api_key),
			   offsetof(struct settings, khaya_translation_version),
			   {{"v1", "/v1/translate", NULL, false}, {"v2", "/v2/translate", NULL, false}}},
	[JOB_TRANSCRIBE] = {"ASRTranscriptionError",
			    offsetof(struct settings, khaya_asr_api_key),
			    offsetof(struct settings, khaya_asr_version),
			    {{"v3", "/asr/v3/transcribe", NULL, false},
			     {"v2", "/asr/v2/transcribe", NULL, false},
			     {"v1", "/asr/v1/transcribe", NULL, false}}},
	[JOB_SYNTHESIZE] = {"TTSGenerationError",
			    offsetof(struct settings, khaya_tts_api_key),
			    offsetof(struct settings, khaya_tts_version),
			    {{"v1", "/tts/v1/tts", "speaker", false},
			     {"v2", "/tts/v2/synthesize", "speaker_id", true}}},
};

static const int retried_statuses[] = {429, 500, 502, 503, 504};

struct khaya {
	const struct settings *settings;
	const struct version *versions[KHAYA_KINDS];
	struct http_target *targets[KHAYA_KINDS]; /* NULL: no key for that service */
};

static const char *text_setting(const struct settings *s, size_t where)
{
	const char *text;

	memcpy(&text, (const char *)s + where, sizeof text);
	return text;
}

static const char *service_key(const struct settings *s, enum job_kind kind)
{
	return settings_khaya_key(s, text_setting(s, services[kind].own_key));
}

/* That of the settings, which let no other names pass. */
static const struct version *service_version(const struct settings *s, enum job_kind kind)
{
	const struct version *all = services[kind].versions;
	const char *name = text_setting(s, services[kind].version);

	for (size_t i = 0; name && i < VERSIONS_MAX && all[i].name; i++)
		if (strcmp(all[i].name, name) == 0)
			return &all[i];
	return &all[0];
}

static struct http_target *make_target(const struct settings *s, enum job_kind kind, const char *path,
				       struct error *err)
{
	char key[4200], url[2048];
	const char *headers[] = {key, "Cache-Control: no-cache", "User-Agent: adwuma/" ADWUMA_VERSION,
				 "Content-Type: application/json", NULL};
	struct http_target *t;

	if (kind == JOB_TRANSCRIBE) /* its type goes with the audio */
		headers[3] = NULL;
	snprintf(key, sizeof key, "Ocp-Apim-Subscription-Key: %s", service_key(s, kind));
	snprintf(url, sizeof url, "%s%s", s->khaya_base_url, path);
	t = http_target_new(url, headers, strncmp(s->khaya_base_url, "https://", 8) == 0, err);
	explicit_bzero(key, sizeof key);
	return t;
}

const char *khaya_version(const struct settings *s, enum job_kind kind)
{
	return service_version(s, kind)->name;
}

struct http_target *khaya_target(const struct settings *s, enum job_kind kind, const char *path, struct error *err)
{
	if (service_key(s, kind))
		return make_target(s, kind, path, err);
	error_set(err, ERR_CONFIG, "API key is required");
	return NULL;
}

struct khaya *khaya_new(const struct settings *settings, struct error *err)
{
	struct khaya *k = calloc(1, sizeof *k);

	if (!k) {
		error_set(err, ERR_MEMORY, "out of memory");
		return NULL;
	}
	k->settings = settings;
	for (enum job_kind i = 0; i < KHAYA_KINDS; i++) {
		k->versions[i] = service_version(settings, i);
		if (!service_key(settings, i))
			continue;
		k->targets[i] = make_target(settings, i, k->versions[i]->path, err);
		if (!k->targets[i]) {
			khaya_free(k);
			return NULL;
		}
	}
	return k;
}

void khaya_free(struct khaya *k)
{
	if (!k)
		return;
	for (size_t i = 0; i < KHAYA_KINDS; i++)
		http_target_free(k->targets[i]);
	free(k);
}

const char *khaya_input_error(enum job_kind kind)
{
	return services[kind].input_error;
}

/* --- Requests. ---------------------------------------------------------------------------------------------------------- */

static int refuse(struct outcome *out, enum job_kind kind, const char *message)
{
	out->kind = OUTCOME_FAILED;
	fault_set(&out->fault, services[kind].input_error, 400, "%s", message);
	return -1;
}

static bool empty(const struct job *job, enum job_field f)
{
	return !job_has(job, f) || job->field[f].len <= 2;
}

/* Texts go on as the JSON strings they came as. */
static void add_span(struct buf *b, struct span v)
{
	buf_add(b, v.ptr, v.len);
}

static void add_text_of(struct call *call, const struct job *job)
{
	if (call->piece.ptr)
		buf_json_string(&call->body, call->piece.ptr, call->piece.len);
	else
		add_span(&call->body, job->field[JOB_TEXT]);
}

static int build_translate(const struct version *v, struct job *job, struct call *call, struct outcome *out)
{
	(void)v;
	if (empty(job, JOB_TEXT) || (job_has(job, JOB_LANGUAGE_PAIR) && empty(job, JOB_LANGUAGE_PAIR)))
		return refuse(out, JOB_TRANSLATE, "Text and language pair are required");
	buf_lit(&call->body, "{\"in\":");
	add_text_of(call, job);
	buf_lit(&call->body, ",\"lang\":");
	if (job_has(job, JOB_LANGUAGE_PAIR))
		add_span(&call->body, job->field[JOB_LANGUAGE_PAIR]);
	else
		buf_lit(&call->body, "\"en-tw\"");
	buf_char(&call->body, '}');
	return 0;
}

static int build_transcribe(const struct version *v, struct job *job, struct call *call, struct outcome *out)
{
	const char *stamps = job_string(job, JOB_TIMESTAMPS, NULL), *language = job_string(job, JOB_LANGUAGE, "twi");

	(void)v;
	if (stamps && strcmp(stamps, "word") != 0 && strcmp(stamps, "segment") != 0) {
		out->kind = OUTCOME_FAILED;
		fault_set(&out->fault, services[JOB_TRANSCRIBE].input_error, 400,
			  "timestamps must be 'word' or 'segment', got '%s'", stamps);
		return -1;
	}
	buf_lit(&call->query, "language=");
	http_encode(&call->query, language, strlen(language));
	if (stamps)
		buf_printf(&call->query, "&timestamps=%s", stamps);
	call->wants_audio = true;
	return 0;
}

static bool known_speaker(const char *speaker)
{
	return strcmp(speaker, "female") == 0 || strcmp(speaker, "male_high") == 0 || strcmp(speaker, "male_low") == 0;
}

static int build_synthesize(const struct version *v, struct job *job, struct call *call, struct outcome *out)
{
	const char *speaker = job_string(job, JOB_SPEAKER, NULL), *format = job_string(job, JOB_FORMAT, "wav");

	if (empty(job, JOB_TEXT) || empty(job, JOB_LANGUAGE))
		return refuse(out, JOB_SYNTHESIZE, "Text and language are required");
	if (speaker && !known_speaker(speaker)) {
		out->kind = OUTCOME_FAILED;
		fault_set(&out->fault, services[JOB_SYNTHESIZE].input_error, 400,
			  "Unknown speaker '%s'. Supported speakers: female, male_high, male_low", speaker);
		return -1;
	}
	if (strcmp(format, "wav") != 0 && !v->formats)
		return refuse(out, JOB_SYNTHESIZE, "format other than wav needs version v2 of the synthesis API");
	buf_lit(&call->body, "{\"text\":");
	add_text_of(call, job);
	buf_lit(&call->body, ",\"language\":");
	add_span(&call->body, job->field[JOB_LANGUAGE]);
	if (speaker) {
		buf_printf(&call->body, ",\"%s\":", v->speaker);
		add_span(&call->body, job->field[JOB_SPEAKER]);
	}
	if (v->formats && job_has(job, JOB_FORMAT)) {
		buf_lit(&call->body, ",\"format\":");
		add_span(&call->body, job->field[JOB_FORMAT]);
	}
	buf_char(&call->body, '}');
	return 0;
}

static int (*const build[KHAYA_KINDS])(const struct version *, struct job *, struct call *, struct outcome *) = {
	[JOB_TRANSLATE] = build_translate, [JOB_TRANSCRIBE] = build_transcribe, [JOB_SYNTHESIZE] = build_synthesize};

static int finish_request(const struct khaya *k, enum job_kind kind, struct call *call, struct outcome *out)
{
	if (call->body.failed || call->query.failed) {
		out->kind = OUTCOME_FAILED;
		fault_set(&out->fault, "APIError", 0, "Transport error: out of memory for the request");
		return -1;
	}
	call->request.target = k->targets[kind];
	call->request.body = call->body.ptr;
	call->request.body_len = call->body.len;
	call->request.query = call->query.len > 0 ? call->query.ptr : NULL;
	call->request.large_response = kind == JOB_SYNTHESIZE;
	call->request.max_response_bytes =
		(size_t)(kind == JOB_SYNTHESIZE ? k->settings->max_audio_bytes : k->settings->max_response_bytes);
	return 0;
}

static size_t text_limit(const struct khaya *k, enum job_kind kind)
{
	return kind == JOB_SYNTHESIZE ? (size_t)k->settings->khaya_tts_max_chars : TRANSLATE_MAX_POINTS;
}

/* A text over the API's limit is cut. */
static int cut_long_text(const struct khaya *k, struct job *job, struct call *call, struct outcome *out)
{
	enum job_kind kind = job->type->kind;
	size_t points = json_points(job->field[JOB_TEXT]);
	const char *text, *format = job_string(job, JOB_FORMAT, "wav");
	struct error err = {0};

	call->units.n[UNIT_CHARACTER] = (int64_t)points;
	if (points <= text_limit(k, kind))
		return 0;
	if (kind == JOB_SYNTHESIZE && strcmp(format, "wav") != 0) {
		out->kind = OUTCOME_FAILED;
		fault_set(
			&out->fault, services[kind].input_error, 400,
			"Text of %zu characters is spoken in parts (khaya_tts_max_chars %lld), and only wav can be joined, "
			"not %s",
			points, (long long)k->settings->khaya_tts_max_chars, format);
		return -1;
	}
	text = job_string(job, JOB_TEXT, "");
	if (cut_text(text, strlen(text), text_limit(k, kind), &call->cut, &err)) {
		out->kind = OUTCOME_FAILED;
		fault_set(&out->fault, "APIError", 0, "Transport error: out of memory for the request");
		return -1;
	}
	if (call->cut.count == 0)
		return refuse(out, kind,
			      kind == JOB_TRANSLATE ? "Text and language pair are required"
						    : "Text and language are required");
	return 0;
}

int khaya_build(const struct khaya *k, struct job *job, struct call *call, struct outcome *out)
{
	enum job_kind kind = job->type->kind;

	if (!k->targets[kind]) { /* wins over every other check */
		out->kind = OUTCOME_FAILED;
		fault_set(&out->fault, "AuthenticationError", 401, "API key is required");
		return -1;
	}
	call->units.n[UNIT_REQUEST] = 1;
	if (build[kind](k->versions[kind], job, call, out) ||
	    (kind != JOB_TRANSCRIBE && cut_long_text(k, job, call, out)))
		return -1;
	return finish_request(k, kind, call, out);
}

int khaya_build_piece(const struct khaya *k, struct job *job, struct call *call, size_t i, struct outcome *out)
{
	call->piece = call->cut.pieces[i];
	call->units.n[UNIT_CHARACTER] = (int64_t)utf8_count(call->piece.ptr, call->piece.len);
	if (build[job->type->kind](k->versions[job->type->kind], job, call, out))
		return -1;
	return finish_request(k, job->type->kind, call, out);
}

void khaya_piece_name(const struct khaya *k, struct job *job, struct call *call, char out[SHA1_HEX_LEN + 1])
{
	size_t len = call->body.len;

	buf_str_add(&call->body,
		    k->versions[job->type->kind]->path); /* another version of the API may answer otherwise */
	sha1_hex(call->body.ptr, call->body.len, out);
	buf_cut(&call->body, len);
	call->request.body = call->body.ptr;
}

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

/* en-tw-x is en to tw-x: the pair is cut at its first hyphen, and echoed as it was given. */
static void add_pair(struct buf *out, struct job *job)
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

/* A lone surrogate is JSON by its grammar but no text, and strict readers refuse the whole result for it. Escaped surrogates are rare: only
 * what holds one is decoded and written again. */
static void add_text(struct buf *out, struct span text)
{
	struct json *decoded;

	if (!memmem(text.ptr, text.len, "\\ud", 3) && !memmem(text.ptr, text.len, "\\uD", 3)) {
		add_span(out, text);
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
		add_pair(&out->result, job);
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

/* out->audio and its type are there. */
static void say_speech(struct job *job, struct outcome *out)
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
	say_speech(job, out);
}

/* --- Joining. ----------------------------------------------------------------------------------------------------------- */

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
	add_pair(&out->result, job);
	out->kind = OUTCOME_SUCCEEDED;
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

/* What was said last, with the reason: the parts are paid for, but make no whole. */
static void unjoinable(struct outcome *out, const char *what, const struct error *err)
{
	out->kind = OUTCOME_FAILED;
	fault_set(&out->fault, services[JOB_SYNTHESIZE].input_error, 200, "%s: %s", what, err->msg);
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
	say_speech(job, out);
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
