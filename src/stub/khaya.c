/* SPDX-License-Identifier: MIT
 *
 * See khaya.h. */
#include "stub/khaya.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "stub/languages.h"
#include "stub/speech.h"
#include "stub/wishes.h"
#include "stub/wrong.h"

#define TRANSLATE_POINTS_MAX 1000
#define ENGLISH "eng" /* one side of every pair */

struct route;

/* What a call asks for, found on the way through the checks. */
struct asked {
	const struct stub *stub;
	const struct httpd_request *r;
	struct httpd_answer *a;
	const struct route *route;
	struct directives d;
	struct json *json;
	struct buf text;     /* of the input: what directives and the answer go by */
	struct buf language; /* without its marker */
	struct buf marked;   /* with it, if it had one */
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

/* --- The services. ----------------------------------------------------------------------------------------- */

/* A language or pair may carry a marker too; what is left of it, trimmed, counts. The whole is kept: directives borrow
 * from it. */
static void strip_marker(struct asked *q)
{
	const char *whole = buf_cstr(&q->language);
	size_t inside;
	const char *list = directives_find(whole, &inside);

	if (!list)
		return;
	q->marked = q->language;
	q->language = BUF_INIT(q->marked.max);
	buf_add(&q->language, whole, (size_t)(list - whole) - (sizeof "stub(" - 1));
	buf_str_add(&q->language, list + inside + 1);
	while (q->language.len > 0 && q->language.ptr[q->language.len - 1] == ' ')
		buf_cut(&q->language, q->language.len - 1);
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
	wrong_input(q->a, refusals[service].code, refusals[service].target, l ? instead : refusals[service].message);
	return NULL;
}

/* The text of a right answer. */
static void say(struct asked *q, const char *text, size_t len)
{
	struct buf *out = &q->a->body;

	buf_json_string(out, text, len);
	if (!q->d.slip || out->failed)
		return;
	buf_cut(out, out->len - 1);
	buf_str_add(out, q->d.slip);
	buf_char(out, '"');
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
	wrong_input(q->a, "TEXT_TOO_LONG", target, message);
}

static void translate(struct asked *q)
{
	const char *pair = buf_cstr(&q->language), *hyphen = strchr(pair, '-'), *target = hyphen ? hyphen + 1 : "";
	const struct language *from, *to;

	if (q->text.len == 0) {
		wrong_input(q->a, "MISSING_TEXT", "in", "Text is required");
		return;
	}
	if (!*pair) {
		wrong_input(q->a, "MISSING_LANGUAGE_PAIR", "language_pair", "Language pair is required");
		return;
	}
	from = take_language(q, pair, hyphen ? (size_t)(hyphen - pair) : strlen(pair));
	to = from ? take_language(q, target, strlen(target)) : NULL;
	if (!from || !to)
		return;
	if (from == to || (strcmp(from->code, ENGLISH) != 0 && strcmp(to->code, ENGLISH) != 0)) {
		char message[256];

		snprintf(message, sizeof message, "Language combination %s cannot be used", pair);
		wrong_input(q->a, "UNSUPPORTED_LANGUAGE_PAIR", "language_pair", message);
	} else if (points(&q->text) > TRANSLATE_POINTS_MAX && q->stub->older_too_long) {
		wrong_length(q->a, 400);
	} else if (points(&q->text) > TRANSLATE_POINTS_MAX) {
		too_long(q, "in", TRANSLATE_POINTS_MAX);
	} else {
		struct buf text = BUF_INIT(q->text.len + 300);

		buf_printf(&text, "[%s] ", target);
		buf_add(&text, q->text.ptr, q->text.len);
		answer_json(q->a, 200);
		say(q, buf_cstr(&text), text.len);
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

/* Each unit takes the time that the speech of the stub gives it. */
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
		wrong_input(q->a, "EMPTY_AUDIO", "audio", "Audio is empty");
		return NULL;
	}
	l = take_language(q, buf_cstr(&q->language), q->language.len);
	if (!l)
		return NULL;
	if (stamps && strcmp(stamps, "word") != 0 && strcmp(stamps, "segment") != 0) {
		wrong_input(q->a, "INVALID_TIMESTAMPS", "timestamps", "timestamps must be word or segment");
		return NULL;
	}
	if (!speech_is_audio(audio, len)) {
		wrong_input(q->a, "INVALID_AUDIO_FORMAT", "audio", "Audio format is not supported");
		return NULL;
	}
	return l;
}

static void transcribe_v1(struct asked *q)
{
	if (!take_audio(q, NULL))
		return;
	answer_json(q->a, 200);
	say(q, buf_cstr(&q->text), q->text.len);
}

static void transcribe(struct asked *q)
{
	const char *language = buf_cstr(&q->language), *stamps = httpd_query(q->r, "timestamps");
	const struct language *l = take_audio(q, stamps);
	struct buf *out = &q->a->body;

	if (!l)
		return;
	answer_json(q->a, 200);
	buf_lit(out, "{\"text\":");
	say(q, buf_cstr(&q->text), q->text.len);
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
	struct speech speech = {buf_cstr(&q->text), "", voice ? voice : "", stream || q->d.streamed,
				q->d.streamed ? (uint32_t)q->d.wav_size : UINT32_MAX};
	const struct language *l;

	if (json_type(q->json) != JSON_OBJECT) {
		wrong_input(q->a, "INVALID_REQUEST", "body", "The request body is not a JSON object");
		return;
	}
	if (q->text.len == 0) {
		wrong_input(q->a, "EMPTY_TEXT", "text", "Text is empty");
		return;
	}
	if (q->language.len == 0) {
		wrong_input(q->a, "MISSING_LANGUAGE", "language", "Language is required");
		return;
	}
	l = take_language(q, buf_cstr(&q->language), q->language.len);
	if (!l)
		return;
	if (id && !is_speaker(id)) {
		char message[256];

		snprintf(message, sizeof message,
			 "Speaker '%.100s' not found. Available speakers are ['male_low', 'male_high', 'female']", id);
		wrong_input(q->a, "INVALID_SPEAKER", "speaker_id", message);
		return;
	}
	if (!format) {
		wrong_input(q->a, "INVALID_REQUEST", "format", "format must be wav, mp3 or ogg");
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

	answer_json(q->a, 200);
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

	answer_json(q->a, 200);
	for (const struct language *l = NULL; (l = language_next(q->route->service, l)); comma = ",")
		buf_printf(out, "%s{\"code\":\"%s\",\"name\":\"%s\"}", comma, l->code, l->name[q->route->service]);
	buf_lit(out, "]}");
}

static void speakers(struct asked *q)
{
	answer_json(q->a, 200);
	buf_lit(&q->a->body, "{\"speakers\":{\"Multilingual\":[");
	for (size_t i = 0; i < sizeof voices / sizeof *voices; i++)
		buf_printf(&q->a->body, "%s\"%s\"", i ? "," : "", voices[i]);
	buf_lit(&q->a->body, "]}}");
}

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

/* --- From request to answer. ------------------------------------------------------------------------------- */

static bool key_accepted(const struct stub *s, const char *key)
{
	bool any = true; /* none of the given keys is Khaya's */

	for (size_t i = 0; i < s->nkeys; i++) {
		if (strcmp(s->keys[i], key) == 0)
			return true;
		any = any && strncmp(s->keys[i], "tk", 2) == 0;
	}
	return any && strcmp(key, "00000000000000000000000000000000") != 0;
}

static void serve(struct stub *s, struct asked *q)
{
	const char *key = httpd_header(q->r, "Ocp-Apim-Subscription-Key");
	const char *bad;

	if (!key)
		key = httpd_query(q->r, "subscription-key");
	if (!key || !*key || !key_accepted(s, key)) {
		wrong_key(q->a, q->route->api, !key || !*key);
		return;
	}
	read_input(q);
	bad = wishes_read(s, q->r, buf_cstr(&q->text), buf_cstr(&q->language), &q->d);
	if (bad) {
		wishes_refuse(q->a, bad);
		return;
	}
	strip_marker(q);
	if (wrong_asked(&q->d))
		wrong_send(q->a, &q->d, q->route->api);
	else
		q->route->serve(q);
	if (q->d.delay_ms == 0)
		q->d.delay_ms = s->delay_ms;
	wrong_finish(q->a, &q->d);
}

/* The language without its marker: what the service would have seen. */
static void record(struct stub *s, struct asked *q)
{
	const struct json *json = q->route && q->route->service == TTS ? q->json : NULL;
	struct call_input in = {
		.text = buf_cstr(&q->text),
		.language = buf_cstr(&q->language),
		.speaker = json_text(json_get(json, "speaker")),
		.speaker_id = json_text(json_get(json, "speaker_id")),
		.format = json_text(json_get(json, "format")),
		.stream = json_true(json_get(json, "stream")),
	};

	calls_add(s->calls, q->r, &in, q->a);
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
		wrong_path(a);
	record(s, &q);
	json_free(q.json);
	buf_release(&q.text);
	buf_release(&q.language);
	buf_release(&q.marked);
}
