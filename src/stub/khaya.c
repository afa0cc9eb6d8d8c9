/* SPDX-License-Identifier: MIT
 *
 * See khaya.h. Bodies of the gateway are those of Azure API Management; of the services those the official SDK's tests
 * record. */
#include "stub/khaya.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/digest.h"
#include "base/json.h"
#include "stub/languages.h"
#include "stub/speech.h"

#define TRANSLATE_POINTS_MAX 1000
#define ENGLISH "eng" /* one side of every pair */

struct route;

/* What a call asks for, found on the way through the checks. */
struct asked {
	const struct stub *stub;
	const struct httpd_request *r;
	struct httpd_answer *a;
	const struct route *route;
	struct json *json;
	struct buf text;     /* of the input: what directives and the answer go by */
	struct buf language; /* without its marker */
};

typedef void serve_fn(struct asked *q);
static serve_fn translate, transcribe, transcribe_v1, synthesize, synthesize_v2, names_by_code, list_of_languages,
	codes_by_name, speakers;

/* Anything else is not there: in particular no older or newer version of what is here. */
static const struct route {
	const char *method, *path;
	serve_fn *serve;
	enum service service;
	const char *api; /* in WWW-Authenticate */
} routes[] = {
	{"POST", "/v1/translate", translate, TRANSLATION, "v1"},
	{"POST", "/v2/translate", translate, TRANSLATION, "v2"},
	{"POST", "/asr/v1/transcribe", transcribe_v1, ASR, "asr/v1"},
	{"POST", "/asr/v2/transcribe", transcribe, ASR, "asr/v2"},
	{"POST", "/asr/v3/transcribe", transcribe, ASR, "asr/v3"},
	{"POST", "/tts/v1/tts", synthesize, TTS, "tts/v1"},
	{"POST", "/tts/v1/synthesize", synthesize, TTS, "tts/v1"},
	{"POST", "/tts/v2/synthesize", synthesize_v2, TTS, "tts/v2"},
	{"GET", "/v1/languages", names_by_code, TRANSLATION, "v1"},
	{"GET", "/v2/languages", names_by_code, TRANSLATION, "v2"},
	{"GET", "/asr/v3/languages", list_of_languages, ASR, "asr/v3"},
	{"GET", "/tts/v1/languages", codes_by_name, TTS, "tts/v1"},
	{"GET", "/tts/v2/languages", codes_by_name, TTS, "tts/v2"},
	{"GET", "/tts/v1/speakers", speakers, TTS, "tts/v1"},
	{"GET", "/tts/v2/speakers", speakers, TTS, "tts/v2"},
};

static const struct route *find_route(const struct httpd_request *r)
{
	for (size_t i = 0; i < sizeof routes / sizeof *routes; i++)
		if (strcmp(routes[i].path, httpd_path(r)) == 0 && strcmp(routes[i].method, httpd_method(r)) == 0)
			return &routes[i];
	return NULL;
}

/* --- Bodies. ----------------------------------------------------------------------------------------------- */

static void json_answer(struct httpd_answer *a, int status)
{
	a->status = status;
	httpd_add_header(a, "Content-Type", "application/json");
}

static void gateway(struct httpd_answer *a, int status, const char *message, const char *rest)
{
	json_answer(a, status);
	buf_printf(&a->body, "{ \"statusCode\": %d, \"message\": \"%s\"%s }", status, message, rest);
}

static void invalid(struct httpd_answer *a, const char *code, const char *target, const char *message)
{
	json_answer(a, 400);
	buf_lit(&a->body, "{\"error\":{\"code\":\"VALIDATION_FAILED\",\"message\":\"The request payload contains "
			  "invalid parameters.\",\"details\":[{\"code\":");
	buf_json_cstr(&a->body, code);
	buf_lit(&a->body, ",\"message\":");
	buf_json_cstr(&a->body, message);
	buf_lit(&a->body, ",\"target\":");
	buf_json_cstr(&a->body, target);
	buf_lit(&a->body, "}]}}");
}

static void page(struct httpd_answer *a, int status, const char *title, const char *heading)
{
	a->status = status;
	httpd_add_header(a, "Content-Type", "text/html; charset=utf-8");
	buf_printf(&a->body, "<!DOCTYPE html><html><head><title>%s</title></head><body><h1>%s</h1></body></html>",
		   title, heading);
}

static const char key_missing[] = "Access denied due to missing subscription key. "
				  "Make sure to include subscription key when making requests to an API.";
static const char key_invalid[] = "Access denied due to invalid subscription key. "
				  "Make sure to provide a valid key for an active subscription.";

static void refuse_key(struct httpd_answer *a, const char *api, bool missing)
{
	char challenge[256];

	snprintf(challenge, sizeof challenge,
		 "AzureApiManagementKey realm=\"https://stub/%s\",name=\"Ocp-Apim-Subscription-Key\",type=\"header\"",
		 api);
	httpd_add_header(a, "WWW-Authenticate", challenge);
	gateway(a, 401, missing ? key_missing : key_invalid, "");
}

/* The body that the real API sends with a status, where the directive does not name one. */
static enum wrong_body usual_body(int status)
{
	switch (status) {
	case 400:
	case 500:
		return BODY_E1;
	case 502:
	case 503:
	case 504:
		return BODY_HTML;
	default:
		return status < 300 ? BODY_JSON : BODY_E2;
	}
}

static void gateway_by_status(struct httpd_answer *a, int status)
{
	switch (status) {
	case 401:
		gateway(a, 401, key_invalid, "");
		break;
	case 403:
		gateway(a, 403, "Out of call volume quota. Quota will be replenished in 00:10:00.", "");
		break;
	case 404:
		gateway(a, 404, "Resource not found", "");
		break;
	case 429:
		gateway(a, 429, "Rate limit is exceeded. Try again in 9 seconds.", "");
		break;
	default:
		gateway(a, status, "Internal server error",
			", \"activityId\": \"41d51993-e979-4d99-a8fd-eea93a3d0267\"");
	}
}

static void service_fault(struct httpd_answer *a, int status)
{
	if (status == 400) {
		invalid(a, "UNSUPPORTED_LANGUAGE_PAIR", "language_pair", "Language combination en-zz cannot be used");
		return;
	}
	json_answer(a, status);
	buf_lit(&a->body,
		"{\"error\":{\"code\":\"SYSTEM_ERROR\",\"message\":\"An unexpected error occurred.\",\"details\":[]}}");
}

/* body is none that the directive would bring along. */
static void send_wrong(struct httpd_answer *a, int status, enum wrong_body body)
{
	a->status = status;
	switch (body) {
	case BODY_FITTING:
		send_wrong(a, status, usual_body(status));
		break;
	case BODY_E1:
		service_fault(a, status);
		break;
	case BODY_E2:
		gateway_by_status(a, status);
		break;
	case BODY_E3:
		json_answer(a, status);
		buf_lit(&a->body, "{\"type\":\"validation_error\",\"message\":\"Input text exceeds maximum length of "
				  "1000 characters\"}");
		break;
	case BODY_HTML:
		page(a, status, "Bad Gateway", "The server is not there.");
		break;
	case BODY_CHALLENGE:
		page(a, status, "Just a moment...", "Checking your browser");
		break;
	case BODY_STOPPED:
		page(a, status, "Web App - Unavailable", "Error 403 - This web app is stopped.");
		break;
	case BODY_TEXT:
		httpd_add_header(a, "Content-Type", "text/plain");
		buf_lit(&a->body, "upstream connect error");
		break;
	case BODY_BROKEN:
		json_answer(a, status);
		buf_lit(&a->body, "{\"text\": \"cut of");
		break;
	case BODY_JSON:
		json_answer(a, status);
		buf_lit(&a->body, "{\"unexpected\": [1, 2, 3]}");
		break;
	case BODY_EMPTY:
	case BODY_LITERAL:
		break;
	}
}

static void set_type(struct httpd_answer *a, const char *type)
{
	size_t i = 0;

	while (i < a->nheaders && strcmp(a->headers[i].name, "Content-Type") != 0)
		i++;
	if (i == a->nheaders)
		httpd_add_header(a, "Content-Type", type);
	else
		snprintf(a->headers[i].value, sizeof a->headers[i].value, "%s", type);
}

/* What the directives ask for in place of the right answer. */
static void send_asked(struct httpd_answer *a, const struct directives *d)
{
	send_wrong(a, d->status ? d->status : 200, d->body);
	if (d->body == BODY_LITERAL)
		base64_decode(&a->body, d->literal, d->literal_len);
}

/* --- The services. ----------------------------------------------------------------------------------------- */

/* A language or pair may carry a marker too; what is left of it, trimmed, counts. */
static void strip_marker(struct buf *language)
{
	char *from = language->ptr ? strstr(language->ptr, "stub(") : NULL, *end = from ? strchr(from, ')') : NULL;

	if (end) {
		memmove(from, end + 1, strlen(end + 1) + 1);
		language->len = strlen(language->ptr);
	}
	while (language->len > 0 && language->ptr[language->len - 1] == ' ')
		language->ptr[--language->len] = '\0';
}

/* Where the service does not take a code, it says so, and which one it takes in its place. */
static const struct language *take_language(struct asked *q, const char *code, size_t n)
{
	static const struct {
		const char *code, *target, *message;
	} refusals[SERVICES] = {
		[TRANSLATION] = {"UNSUPPORTED_LANGUAGE_CODE", "language_pair", "Language code is not supported"},
		[ASR] = {"UNSUPPORTED_LANGUAGE", "language", "Language is not supported"},
		[TTS] = {"UNSUPPORTED_LANGUAGE", "language", "Language is not supported"},
	};
	enum service service = q->route->service;
	enum spelling spelling;
	const struct language *l = language_find(service, code, n, &spelling);
	char instead[128];

	if (l && (spelling == SPELLING_NOW || (spelling == SPELLING_LEGACY && !q->stub->strict_codes)))
		return l;
	if (l)
		snprintf(instead, sizeof instead, "Invalid language provided. Use '%s' instead.", l->code);
	invalid(q->a, refusals[service].code, refusals[service].target, l ? instead : refusals[service].message);
	return NULL;
}

static size_t points(const struct buf *text)
{
	size_t n = 0;

	for (size_t i = 0; i < text->len; i++)
		n += ((unsigned char)text->ptr[i] & 0xc0) != 0x80;
	return n;
}

static void too_long(struct asked *q, const char *target, int64_t limit)
{
	char message[128];

	snprintf(message, sizeof message, "Input text exceeds maximum length of %lld characters", (long long)limit);
	invalid(q->a, "TEXT_TOO_LONG", target, message);
}

static void translate(struct asked *q)
{
	const char *pair = buf_cstr(&q->language), *hyphen = strchr(pair, '-'), *target = hyphen ? hyphen + 1 : "";
	const struct language *from, *to;

	if (q->text.len == 0) {
		invalid(q->a, "MISSING_TEXT", "in", "Text is required");
		return;
	}
	if (!*pair) {
		invalid(q->a, "MISSING_LANGUAGE_PAIR", "language_pair", "Language pair is required");
		return;
	}
	from = take_language(q, pair, hyphen ? (size_t)(hyphen - pair) : strlen(pair));
	to = from ? take_language(q, target, strlen(target)) : NULL;
	if (!from || !to)
		return;
	if (from == to || (strcmp(from->code, ENGLISH) != 0 && strcmp(to->code, ENGLISH) != 0)) {
		char message[256];

		snprintf(message, sizeof message, "Language combination %s cannot be used", pair);
		invalid(q->a, "UNSUPPORTED_LANGUAGE_PAIR", "language_pair", message);
	} else if (points(&q->text) > TRANSLATE_POINTS_MAX && q->stub->older_too_long) {
		send_wrong(q->a, 400, BODY_E3);
	} else if (points(&q->text) > TRANSLATE_POINTS_MAX) {
		too_long(q, "in", TRANSLATE_POINTS_MAX);
	} else {
		struct buf text = BUF_INIT(q->text.len + 300);

		buf_printf(&text, "[%s] ", target);
		buf_add(&text, q->text.ptr, q->text.len);
		json_answer(q->a, 200);
		buf_json_string(&q->a->body, buf_cstr(&text), text.len);
		buf_release(&text);
	}
}

/* How long the word or the sentence at the text's beginning is. */
static size_t unit_len(const char *text, bool words)
{
	size_t n = strcspn(text, words ? " \n" : ".!?");

	while (!words && text[n] && !strchr(" \n", text[n + 1])) /* a stop within: 3.14, or another stop */
		n += 1 + strcspn(text + n + 1, ".!?");
	return n + (!words && text[n]);
}

/* When the byte there is heard. */
static void add_seconds(struct buf *out, const char *name, size_t byte)
{
	buf_str_add(out, name);
	buf_json_double(out, (double)(byte * SPEECH_BYTE_MS) / 1000, 2);
}

/* Each unit takes the time that speech_make() gives it. */
static void add_timings(struct buf *out, const char *text, const char *granularity)
{
	bool words = strcmp(granularity, "word") == 0;
	const char *comma = "";

	buf_printf(out, ",\"timings\":{\"unit\":\"seconds\",\"granularity\":\"%s\",\"%s\":[],\"%s\":[", granularity,
		   words ? "segments" : "words", words ? "words" : "segments");
	for (const char *p = text; *(p += strspn(p, " \n"));) {
		size_t len = unit_len(p, words), at = (size_t)(p - text);

		buf_printf(out, "%s{\"%s\":", comma, words ? "word" : "text");
		buf_json_string(out, p, len);
		add_seconds(out, ",\"start\":", at);
		add_seconds(out, ",\"end\":", at + len);
		buf_char(out, '}');
		comma = ",";
		p += len;
	}
	buf_lit(out, "]}");
}

/* The language and the sound are right; otherwise it is said what is wrong. stamps: NULL for none. */
static const struct language *take_audio(struct asked *q, const char *stamps)
{
	const struct language *l = NULL;
	size_t len;
	const char *audio = httpd_body(q->r, &len);

	if (len == 0) {
		invalid(q->a, "EMPTY_AUDIO", "audio", "Audio is empty");
		return NULL;
	}
	l = take_language(q, buf_cstr(&q->language), q->language.len);
	if (!l)
		return NULL;
	if (stamps && strcmp(stamps, "word") != 0 && strcmp(stamps, "segment") != 0) {
		invalid(q->a, "INVALID_TIMESTAMPS", "timestamps", "timestamps must be word or segment");
		return NULL;
	}
	if (!speech_is_audio(audio, len)) {
		invalid(q->a, "INVALID_AUDIO_FORMAT", "audio", "Audio format is not supported");
		return NULL;
	}
	return l;
}

static void transcribe_v1(struct asked *q)
{
	if (!take_audio(q, NULL))
		return;
	json_answer(q->a, 200);
	buf_json_string(&q->a->body, buf_cstr(&q->text), q->text.len);
}

static void transcribe(struct asked *q)
{
	const char *language = buf_cstr(&q->language), *stamps = httpd_query(q->r, "timestamps");
	const struct language *l = take_audio(q, stamps);
	struct buf *out = &q->a->body;

	if (!l)
		return;
	json_answer(q->a, 200);
	buf_lit(out, "{\"text\":");
	buf_json_string(out, buf_cstr(&q->text), q->text.len);
	buf_lit(out, ",\"warnings\":[");
	if (strcmp(language, l->code) != 0)
		buf_printf(out, "\"Language code '%s' is a legacy code. Please update to '%s' (ISO 639-3)\"", language,
			   l->code);
	buf_char(out, ']');
	if (stamps)
		add_timings(out, buf_cstr(&q->text), stamps);
	buf_char(out, '}');
}

static const char *const voices[] = {"male_low", "male_high", "female"};

static bool is_speaker(const char *name)
{
	for (size_t i = 0; i < sizeof voices / sizeof *voices; i++)
		if (strcmp(voices[i], name) == 0)
			return true;
	return false;
}

static const struct format {
	const char *name, *type;
	speech_fn *make;
} formats[] = {
	{"wav", "audio/wav", speech_wav}, /* where none is asked for */
	{"mp3", "audio/mpeg", speech_mp3},
	{"ogg", "audio/ogg", speech_ogg},
};

/* NULL: unknown. */
static const struct format *find_format(const struct json *asked)
{
	const char *name = asked ? json_text(asked) : formats[0].name;

	for (size_t i = 0; name && i < sizeof formats / sizeof *formats; i++)
		if (strcmp(formats[i].name, name) == 0)
			return &formats[i];
	return NULL;
}

/* The SDK sends `speaker`, at which the service does not look; at `speaker_id` it does. Either gives the voice. */
static void speak(struct asked *q, const struct format *format, bool stream)
{
	const char *id = json_text(json_get(q->json, "speaker_id")), *speaker = json_text(json_get(q->json, "speaker"));
	const char *voice = id ? id : speaker;
	struct speech speech = {buf_cstr(&q->text), "", voice ? voice : "", stream, UINT32_MAX};
	const struct language *l;

	if (json_type(q->json) != JSON_OBJECT) {
		invalid(q->a, "INVALID_REQUEST", "body", "The request body is not a JSON object");
		return;
	}
	if (q->text.len == 0) {
		invalid(q->a, "EMPTY_TEXT", "text", "Text is empty");
		return;
	}
	if (q->language.len == 0) {
		invalid(q->a, "MISSING_LANGUAGE", "language", "Language is required");
		return;
	}
	l = take_language(q, buf_cstr(&q->language), q->language.len);
	if (!l)
		return;
	if (id && !is_speaker(id)) {
		char message[256];

		snprintf(message, sizeof message,
			 "Speaker '%.100s' not found. Available speakers are ['male_low', 'male_high', 'female']", id);
		invalid(q->a, "INVALID_SPEAKER", "speaker_id", message);
		return;
	}
	if (!format) {
		invalid(q->a, "INVALID_REQUEST", "format", "format must be wav, mp3 or ogg");
		return;
	}
	if (points(&q->text) > (size_t)q->stub->tts_limit) {
		too_long(q, "text", q->stub->tts_limit);
		return;
	}
	q->a->status = 200;
	q->a->chunked = stream;
	httpd_add_header(q->a, "Content-Type", format->type);
	speech.language = l->code;
	format->make(&q->a->body, &speech);
}

/* Knows neither `format` nor `stream`. */
static void synthesize(struct asked *q)
{
	speak(q, &formats[0], false);
}

static void synthesize_v2(struct asked *q)
{
	speak(q, find_format(json_get(q->json, "format")), json_true(json_get(q->json, "stream")));
}

/* --- The catalogues: three shapes, and one of its own. ----------------------------------------------------- */

static void members(struct asked *q, bool by_name)
{
	struct buf *out = &q->a->body;
	const char *comma = "{\"languages\":{";

	json_answer(q->a, 200);
	for (const struct language *l = NULL; (l = language_next(q->route->service, l)); comma = ",") {
		const char *name = l->name[q->route->service];

		buf_printf(out, "%s\"%s\":\"%s\"", comma, by_name ? name : l->code, by_name ? l->code : name);
	}
	buf_lit(out, "}}");
}

static void names_by_code(struct asked *q)
{
	members(q, false);
}

static void codes_by_name(struct asked *q)
{
	members(q, true);
}

static void list_of_languages(struct asked *q)
{
	struct buf *out = &q->a->body;
	const char *comma = "{\"languages\":[";

	json_answer(q->a, 200);
	for (const struct language *l = NULL; (l = language_next(q->route->service, l)); comma = ",")
		buf_printf(out, "%s{\"code\":\"%s\",\"name\":\"%s\"}", comma, l->code, l->name[q->route->service]);
	buf_lit(out, "]}");
}

static void speakers(struct asked *q)
{
	json_answer(q->a, 200);
	buf_lit(&q->a->body, "{\"speakers\":{\"Multilingual\":[");
	for (size_t i = 0; i < sizeof voices / sizeof *voices; i++)
		buf_printf(&q->a->body, "%s\"%s\"", i ? "," : "", voices[i]);
	buf_lit(&q->a->body, "]}}");
}

/* --- From request to answer. ------------------------------------------------------------------------------- */

/* A catalogue has no input: its body is empty. */
static void read_input(struct asked *q)
{
	static const char *const names[SERVICES][2] = {[TRANSLATION] = {"in", "lang"}, [TTS] = {"text", "language"}};
	enum service service = q->route->service;
	size_t len;
	const char *body = httpd_body(q->r, &len), *text = NULL, *language = NULL;

	if (service == ASR) {
		if (len > 0 && !speech_text(body, len, &q->text))
			buf_printf(&q->text, "audio of %zu bytes", len);
		language = httpd_query(q->r, "language");
	} else {
		q->json = json_parse(body, len);
		text = json_text(json_get(q->json, names[service][0]));
		language = json_text(json_get(q->json, names[service][1]));
	}
	if (text)
		buf_str_add(&q->text, text);
	if (language)
		buf_str_add(&q->language, language);
}

/* The directives of one input replace those so far, unless their times are over. Returns what is not understood, or
 * NULL. */
static const char *add_wish(struct directives *d, struct stub *s, char sort, const char *input, const char *list,
			    size_t len)
{
	struct directives own = {0};
	const char *bad = NULL;

	if (list && directives_parse(&own, list, len, &bad) &&
	    !(own.times > 0 && calls_seen(s->calls, sort, input) > own.times))
		*d = own;
	return bad;
}

/* The nearest wish counts: text, then language, then header, then everywhere. A header that is not understood is told;
 * a text with something else in stub(...) is just a text. */
static const char *wishes(struct stub *s, const struct asked *q, struct directives *d)
{
	const char *header = httpd_header(q->r, "X-Stub"), *language = buf_cstr(&q->language),
		   *text = buf_cstr(&q->text), *list, *bad = NULL;
	size_t len = 0;

	if (s->everywhere.times == 0 || ++s->everywhere_seen <= s->everywhere.times)
		*d = s->everywhere;
	if (header && *header)
		bad = add_wish(d, s, 'h', header, header, strlen(header));
	list = directives_find(language, &len);
	(void)add_wish(d, s, 'l', language, list, len);
	list = directives_find(text, &len);
	(void)add_wish(d, s, 't', text, list, len);
	return bad;
}

static bool key_accepted(const struct stub *s, const char *key)
{
	for (size_t i = 0; i < s->nkeys; i++)
		if (strcmp(s->keys[i], key) == 0)
			return true;
	return s->nkeys == 0 && strcmp(key, "00000000000000000000000000000000") != 0;
}

static void serve(struct stub *s, struct asked *q)
{
	const char *key = httpd_header(q->r, "Ocp-Apim-Subscription-Key");
	struct directives d = {0};
	const char *bad;

	if (!key)
		key = httpd_query(q->r, "subscription-key");
	if (!key || !*key || !key_accepted(s, key)) {
		refuse_key(q->a, q->route->api, !key || !*key);
		return;
	}
	read_input(q);
	bad = wishes(s, q, &d);
	if (bad) {
		q->a->status = 400;
		buf_printf(&q->a->body, "adwuma-stubapi: '%s' in X-Stub is not understood; see --help\n", bad);
		return;
	}
	q->a->delay_ms = d.delay_ms ? d.delay_ms : s->delay_ms;
	q->a->body_delay_ms = d.body_delay_ms;
	q->a->dribble_ms = d.dribble_ms;
	q->a->manner = d.manner;
	if (d.retry_after.given)
		httpd_add_header(q->a, "Retry-After", d.retry_after.text);
	if (d.status || d.body) {
		send_asked(q->a, &d);
	} else {
		strip_marker(&q->language);
		q->route->serve(q);
	}
	if (d.type.given)
		set_type(q->a, d.type.text);
}

void khaya_answer(struct stub *s, const struct httpd_request *r, struct httpd_answer *a)
{
	struct asked q = {.stub = s,
			  .r = r,
			  .a = a,
			  .route = find_route(r),
			  .text = BUF_INIT(SIZE_MAX / 2),
			  .language = BUF_INIT(64 * 1024)};

	if (q.route)
		serve(s, &q);
	else
		gateway(a, 404, "Resource not found", "");
	calls_add(s->calls, r, buf_cstr(&q.text), a);
	json_free(q.json);
	buf_release(&q.text);
	buf_release(&q.language);
}
