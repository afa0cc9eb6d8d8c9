/* SPDX-License-Identifier: MIT
 *
 * Khaya AI (GhanaNLP): translation, speech recognition, speech synthesis. Semantics of the official Python SDK where it is right, and
 * sounder ones where it lets exceptions out.
 *
 * Sources: the SDK (Khaya-AI/khaya-sdk, main of 2026-08) for requests, classes, messages and retries; Azure API Management for gateway
 * bodies. Pure: bytes in, bytes out. Here: what goes out; khaya_read.c has what comes back, khaya_join.c what becomes of pieces. */
#include "api/khaya.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/digest.h"
#include "base/utf8.h"

#define TRANSLATE_MAX_POINTS 1000 /* in one request */

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
