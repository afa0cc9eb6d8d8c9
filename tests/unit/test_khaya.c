/* SPDX-License-Identifier: MIT
 *
 * The Khaya adapter on recorded bodies: what comes in, what must come out, as a table. */
#include <arpa/inet.h>
#include <check.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "api/api.h"

static const struct row {
	const char *job; /* its type decides the service */
	enum http_end end;
	long status;
	const char *type, *retry_after, *body;
	enum outcome_kind kind;
	const char *error;  /* NULL: result is compared */
	const char *wanted; /* the whole result, or the whole message */
	const char *code;   /* NULL: not looked at */
	bool retryable;
} rows[] = {
#define T "{\"id\":\"a\",\"text\":\"x\",\"language_pair\":\"en-tw\"}"
#define A "{\"id\":\"a\",\"type\":\"transcribe\",\"audio_key\":\"k\"}"
#define S "{\"id\":\"a\",\"type\":\"synthesize\",\"text\":\"x\",\"language\":\"twi\"}"
#define OK HTTP_ANSWERED
#define JSON "application/json"
#define TEN "0123456789"
#define TENS TEN TEN TEN TEN TEN TEN TEN
#define LONG_TITLE TENS TENS TENS /* over the 200 of a snippet */
	/* translation */
	{T, OK, 200, JSON, "", "\"\\u0190te s\xc9\x9bn?\"", OUTCOME_SUCCEEDED, NULL,
	 "{\"text\":\"\\u0190te s\xc9\x9bn?\",\"source_language\":\"en\",\"target_language\":\"tw\"}", NULL, false},
	{T, OK, 200, "", "", " \n\"a\"\n", OUTCOME_SUCCEEDED, NULL,
	 "{\"text\":\"a\",\"source_language\":\"en\",\"target_language\":\"tw\"}", NULL, false},
	{T, OK, 200, JSON, "", "\xef\xbb\xbf\"a\"", OUTCOME_SUCCEEDED, NULL,
	 "{\"text\":\"a\",\"source_language\":\"en\",\"target_language\":\"tw\"}", NULL, false},
	{T, OK, 200, JSON, "", "\"\xff\"", OUTCOME_SUCCEEDED, NULL,
	 "{\"text\":\"\xef\xbf\xbd\",\"source_language\":\"en\",\"target_language\":\"tw\"}", NULL, false},
	{T, OK, 200, JSON, "", "{\"out\":\"a\"}", OUTCOME_FAILED, "APIError",
	 "Unexpected JSON in a success response: {\"out\":\"a\"}", "", false},
	{T, OK, 200, JSON, "", "null", OUTCOME_FAILED, "APIError", "Unexpected JSON in a success response: null", "",
	 false},
	{T, OK, 200, JSON, "", "{\"error\":{\"code\":\"C\",\"message\":\"M\"}}", OUTCOME_FAILED, "APIError", "M", "C",
	 false},
	{T, OK, 200, "text/html", "", "<html>  <b>x</b>\n</html>", OUTCOME_FAILED, "APIError",
	 "Expected a JSON response but received 'text/html': <html> <b>x</b> </html>", "", false},
	{T, OK, 200, "", "", "", OUTCOME_FAILED, "APIError", "Expected a JSON response but received 'unknown': ", "",
	 false},
	{T, OK, 204, "", "", "", OUTCOME_FAILED, "APIError", "Expected a JSON response but received 'unknown': ", "",
	 false},
	{T, OK, 302, "text/plain", "", "moved", OUTCOME_FAILED, "APIError",
	 "Expected a JSON response but received 'text/plain': moved", "", false},
	{"{\"id\":\"a\",\"text\":\"x\",\"language_pair\":\"xon_likoonli-eng-x\"}", OK, 200, JSON, "", "\"a\"",
	 OUTCOME_SUCCEEDED, NULL, "{\"text\":\"a\",\"source_language\":\"xon_likoonli\",\"target_language\":\"eng-x\"}",
	 NULL, false},
	{"{\"id\":\"a\",\"text\":\"x\",\"language_pair\":\"en\"}", OK, 200, JSON, "", "\"a\"", OUTCOME_SUCCEEDED, NULL,
	 "{\"text\":\"a\",\"source_language\":\"en\",\"target_language\":\"\"}", NULL, false},
	{T, OK, 200, JSON, "", "\"\\ud83d\\ude00 \\\\ud\"", OUTCOME_SUCCEEDED, NULL,
	 "{\"text\":\"\xf0\x9f\x98\x80 \\\\ud\",\"source_language\":\"en\",\"target_language\":\"tw\"}", NULL, false},
	{T, OK, 200, JSON, "", "\"a\\uD800b\"", OUTCOME_SUCCEEDED, NULL,
	 "{\"text\":\"a\xef\xbf\xbd"
	 "b\",\"source_language\":\"en\",\"target_language\":\"tw\"}",
	 NULL, false},
	{T, OK, 200, JSON, "", "\"\"", OUTCOME_SUCCEEDED, NULL,
	 "{\"text\":\"\",\"source_language\":\"en\",\"target_language\":\"tw\"}", NULL, false},
	{T, OK, 200, JSON, "", "\"\\u0000\\n\"", OUTCOME_SUCCEEDED, NULL,
	 "{\"text\":\"\\u0000\\n\",\"source_language\":\"en\",\"target_language\":\"tw\"}", NULL, false},
	{T, OK, 200, JSON, "", "\"a\" x", OUTCOME_FAILED, "APIError",
	 "Expected a JSON response but received 'application/json': \"a\" x", "", false},
	{T, OK, 200, JSON, "", "\"a\nb\"", OUTCOME_FAILED, "APIError",
	 "Expected a JSON response but received 'application/json': \"a b\"", "", false},
	{T, OK, 200, JSON, "", "5", OUTCOME_FAILED, "APIError", "Unexpected JSON in a success response: 5", "", false},
	{T, OK, 201, JSON, "", "\"a\"", OUTCOME_SUCCEEDED, NULL,
	 "{\"text\":\"a\",\"source_language\":\"en\",\"target_language\":\"tw\"}", NULL, false},
	/* error envelopes */
	{T, OK, 400, JSON, "", "{\"error\":{\"code\":\"VALIDATION_FAILED\",\"message\":\"Bad.\",\"details\":[]}}",
	 OUTCOME_FAILED, "APIError", "Bad.", "VALIDATION_FAILED", false},
	{T, OK, 400, JSON, "", "{\"error\":{\"code\":7}}", OUTCOME_FAILED, "APIError", "HTTP 400", "7", false},
	{T, OK, 400, JSON, "", "{\"error\":\"text\"}", OUTCOME_FAILED, "APIError", "HTTP 400", "", false},
	{T, OK, 400, JSON, "", "{\"type\":\"validation_error\",\"message\":\"too long\"}", OUTCOME_FAILED, "APIError",
	 "too long", "", false},
	{T, OK, 400, JSON, "", "\"just text\"", OUTCOME_FAILED, "APIError", "just text", "", false},
	{T, OK, 400, JSON, "", "\"\"", OUTCOME_FAILED, "APIError", "HTTP 400", "", false},
	{T, OK, 400, JSON, "", "[1, 2]", OUTCOME_FAILED, "APIError", "[1, 2]", "", false},
	{T, OK, 400, JSON, "", " [1]\n", OUTCOME_FAILED, "APIError", "[1]", "", false},
	{T, OK, 400, JSON, "", "{\"error\":{\"message\":\"\",\"code\":null},\"message\":\"outer\"}", OUTCOME_FAILED,
	 "APIError", "HTTP 400", "", false},
	{T, OK, 400, JSON, "", "{\"message\":\"m\",\"code\":\"C\",\"details\":[{\"message\":\"d\"}]}", OUTCOME_FAILED,
	 "APIError", "m", "C", false},
	{T, OK, 400, JSON, "", "\xef\xbb\xbf{\"message\":\"m\"}", OUTCOME_FAILED, "APIError", "m", "", false},
	{T, OK, 400, "text/html", "", "{\"message\":\"m\"}", OUTCOME_FAILED, "APIError", "m", "", false},
	{T, OK, 400, "text/plain", "",
	 "\xff"
	 "a",
	 OUTCOME_FAILED, "APIError",
	 "HTTP 400: \xef\xbf\xbd"
	 "a",
	 "", false},
	{T, OK, 400, JSON, "", "{}", OUTCOME_FAILED, "APIError", "HTTP 400", "", false},
	{T, OK, 401, JSON, "", "{ \"statusCode\": 401, \"message\": \"Access denied\" }", OUTCOME_FAILED,
	 "AuthenticationError", "Access denied", "", false},
	{T, OK, 403, JSON, "600",
	 "{ \"statusCode\": 403, \"message\": \"Out of call volume quota. Quota will be replenished in 00:10:00.\" }",
	 OUTCOME_FAILED, "APIError", "Out of call volume quota. Quota will be replenished in 00:10:00.", "", true},
	{T, OK, 403, JSON, "", "{ \"statusCode\": 403, \"message\": \"Out of bandwidth quota.\" }", OUTCOME_FAILED,
	 "APIError", "Out of bandwidth quota.", "", true},
	{T, OK, 403, "text/html", "", "<HTML><TITLE lang=en>\n Web App -\n Unavailable </TITLE>", OUTCOME_FAILED,
	 "APIError", "HTTP 403: Web App - Unavailable (non-JSON response from the API gateway)", "", false},
	{T, OK, 400, "text/html", "", "<title>" LONG_TITLE "</title>", OUTCOME_FAILED, "APIError",
	 "HTTP 400: " LONG_TITLE " (non-JSON response from the API gateway)", "", false},
	{T, OK, 503, "text/html", "", "<title>Just a moment...</title><title>2</title>", OUTCOME_RETRY, "APIError",
	 "HTTP 503: Just a moment... (non-JSON response from the API gateway)", "", true},
	{T, OK, 403, JSON, "", "{\"message\":\"no\"}", OUTCOME_FAILED, "APIError", "no", "", false},
	{T, OK, 400, JSON, "", "{\"message\":\"Out of call volume quota\"}", OUTCOME_FAILED, "APIError",
	 "Out of call volume quota", "", false},
	{T, OK, 403, "text/html", "", "<title> </title>rest", OUTCOME_FAILED, "APIError",
	 "HTTP 403: <title> </title>rest", "", false},
	{T, OK, 404, JSON, "", "{ \"statusCode\": 404, \"message\": \"Resource not found\" }", OUTCOME_FAILED,
	 "APIError", "Resource not found", "", false},
	{T, OK, 408, "", "", "", OUTCOME_FAILED, "APIError", "HTTP 408", "", false},
	{T, OK, 429, JSON, "9", "{ \"statusCode\": 429, \"message\": \"Rate limit is exceeded.\" }", OUTCOME_RETRY,
	 "RateLimitError", "Rate limit is exceeded. (Retry-After: 9s)", "", true},
	{T, OK, 429, "", "", "", OUTCOME_RETRY, "RateLimitError", "HTTP 429", "", true},
	{T, OK, 429, "", "Wed, 21 Oct 2026", "", OUTCOME_RETRY, "RateLimitError",
	 "HTTP 429 (Retry-After: Wed, 21 Oct 2026s)", "", true},
	{T, OK, 500, JSON, "", "{\"statusCode\":500,\"message\":\"Internal server error\",\"activityId\":\"41d5\"}",
	 OUTCOME_RETRY, "APIError", "Internal server error", "", true},
	{T, OK, 500, JSON, "", "{\"error\":{\"code\":\"SYSTEM_ERROR\",\"message\":\"Oops\",\"details\":[]}}",
	 OUTCOME_RETRY, "APIError", "Oops", "SYSTEM_ERROR", true},
	{T, OK, 502, "text/html", "", "bad gateway", OUTCOME_RETRY, "APIError", "HTTP 502: bad gateway", "", true},
	{T, OK, 503, "", "", "", OUTCOME_RETRY, "APIError", "HTTP 503", "", true},
	{T, OK, 504, "", "", " ", OUTCOME_RETRY, "APIError", "HTTP 504", "", true},
	{T, OK, 501, "", "", "", OUTCOME_FAILED, "APIError", "HTTP 501", "", false},
	{T, OK, 505, "", "", "", OUTCOME_FAILED, "APIError", "HTTP 505", "", false},
	{T, OK, 522, "", "", "", OUTCOME_FAILED, "APIError", "HTTP 522", "", false},
	/* transport */
	{T, HTTP_TRANSPORT, 0, "", "", "", OUTCOME_RETRY, "APIError", "Transport error: reset", "", true},
	{T, HTTP_TIMED_OUT, 200, "", "", "", OUTCOME_RETRY, "APIError", "Transport error: reset", "", true},
	{T, HTTP_BODY_FAILED, 0, "", "", "", OUTCOME_RETRY, "APIError", "Transport error: reset", "", true},
	{T, HTTP_TOO_LARGE, 200, "", "", "", OUTCOME_FAILED, "APIError", "Transport error: reset", "", false},
	{T, HTTP_REFUSED, 0, "", "", "", OUTCOME_FAILED, "APIError", "Transport error: reset", "", false},
	/* recognition */
	{A, OK, 200, JSON, "", "\"v1 text\"", OUTCOME_SUCCEEDED, NULL,
	 "{\"text\":\"v1 text\",\"language\":\"twi\",\"warnings\":[],\"timings\":null}", NULL, false},
	{A, OK, 200, JSON, "", "{}", OUTCOME_SUCCEEDED, NULL,
	 "{\"text\":\"\",\"language\":\"twi\",\"warnings\":[],\"timings\":null}", NULL, false},
	{A, OK, 200, JSON, "", "{\"text\":null,\"warnings\":null,\"timings\":{}}", OUTCOME_SUCCEEDED, NULL,
	 "{\"text\":\"\",\"language\":\"twi\",\"warnings\":[],\"timings\":null}", NULL, false},
	{A, OK, 200, JSON, "", "{\"text\":\"a\",\"warnings\":\"old code\"}", OUTCOME_SUCCEEDED, NULL,
	 "{\"text\":\"a\",\"language\":\"twi\",\"warnings\":[\"old code\"],\"timings\":null}", NULL, false},
	{A, OK, 200, JSON, "", "{\"text\":\"a\",\"warnings\":[\"w\",5,\"v\"]}", OUTCOME_SUCCEEDED, NULL,
	 "{\"text\":\"a\",\"language\":\"twi\",\"warnings\":[\"w\",\"v\"],\"timings\":null}", NULL, false},
	{A, OK, 200, JSON, "",
	 "{\"text\":\"a\",\"timings\":{\"words\":[{\"word\":\"a\",\"start\":0.0,\"end\":0.12,\"more\":1},{\"word\":\"b\"}],\"segments\":null}}",
	 OUTCOME_SUCCEEDED, NULL,
	 "{\"text\":\"a\",\"language\":\"twi\",\"warnings\":[],\"timings\":{\"unit\":\"seconds\",\"granularity\":\"\",\"words\":[{\"word\":\"a\",\"start\":0,\"end\":0.12}],\"segments\":[]}}",
	 NULL, false},
	{A, OK, 200, JSON, "",
	 "{\"text\":\"a\",\"timings\":{\"unit\":\"ms\",\"granularity\":\"segment\",\"segments\":[{\"text\":\"s\",\"start\":1,\"end\":2}]}}",
	 OUTCOME_SUCCEEDED, NULL,
	 "{\"text\":\"a\",\"language\":\"twi\",\"warnings\":[],\"timings\":{\"unit\":\"ms\",\"granularity\":\"segment\",\"words\":[],\"segments\":[{\"text\":\"s\",\"start\":1,\"end\":2}]}}",
	 NULL, false},
	{A, OK, 200, JSON, "", "{\"text\":5}", OUTCOME_FAILED, "APIError",
	 "Unexpected JSON in a success response: {\"text\":5}", "", false},
	{A, OK, 200, JSON, "", "5", OUTCOME_FAILED, "APIError", "Unexpected JSON in a success response: 5", "", false},
	{A, OK, 200, JSON, "", "", OUTCOME_FAILED, "APIError",
	 "Expected a JSON response but received 'application/json': ", "", false},
	{A, OK, 200, JSON, "", "\"\"", OUTCOME_SUCCEEDED, NULL,
	 "{\"text\":\"\",\"language\":\"twi\",\"warnings\":[],\"timings\":null}", NULL, false},
	{A, OK, 200, JSON, "", "{\"text\":\"a\",\"timings\":\"none\"}", OUTCOME_SUCCEEDED, NULL,
	 "{\"text\":\"a\",\"language\":\"twi\",\"warnings\":[],\"timings\":null}", NULL, false},
	{A, OK, 500, JSON, "", "{\"error\":{\"code\":\"SYSTEM_ERROR\",\"message\":\"Oops\"}}", OUTCOME_RETRY,
	 "APIError", "Oops", "SYSTEM_ERROR", true},
	{A, OK, 200, JSON, "", "null", OUTCOME_FAILED, "APIError", "Unexpected JSON in a success response: null", "",
	 false},
	{A, OK, 200, JSON, "", "[]", OUTCOME_FAILED, "APIError", "Unexpected JSON in a success response: []", "",
	 false},
	{A, OK, 200, JSON, "", "{\"error\":{\"message\":\"M\",\"code\":\"INVALID_AUDIO_FORMAT\"}}", OUTCOME_FAILED,
	 "APIError", "M", "INVALID_AUDIO_FORMAT", false},
	{A, OK, 200, "text/html", "", "<p>", OUTCOME_FAILED, "APIError",
	 "Expected a JSON response but received 'text/html': <p>", "", false},
	/* synthesis */
	{S, OK, 200, "audio/wav", "", "RIFF....WAVE", OUTCOME_SUCCEEDED, NULL,
	 "{\"language\":\"twi\",\"content_type\":\"audio/wav\",\"bytes\":12,\"sha256\":\"b589c9f03d18442efa847e499d7995c122a5fd9fa0c6859fcc0370210cdf9e37\"}",
	 NULL, false},
	{S, OK, 200, "audio/mpeg", "", "ID3xyz", OUTCOME_SUCCEEDED, NULL,
	 "{\"language\":\"twi\",\"content_type\":\"audio/mpeg\",\"bytes\":6,\"sha256\":\"de9ad0883c86d11ae2f67ea303d2a962a15a5195d4058c3bd48983f700d355ef\"}",
	 NULL, false},
	{S, OK, 200, "audio/ogg", "", "OggSx", OUTCOME_SUCCEEDED, NULL,
	 "{\"language\":\"twi\",\"content_type\":\"audio/ogg\",\"bytes\":5,\"sha256\":\"dda1120d8ea9fcf6e526df5f34fad58d61b7f35e622c7aca788a467840f5b3f4\"}",
	 NULL, false},
	{S, OK, 200, "", "", "RIFF", OUTCOME_SUCCEEDED, NULL,
	 "{\"language\":\"twi\",\"content_type\":\"audio/wav\",\"bytes\":4,\"sha256\":\"a40ff3d5900fb7698b8c865041347cb49eccedc8f93945f89629ad104aaecce4\"}",
	 NULL, false},
	{S, OK, 200, "text/html", "", "RIFF", OUTCOME_SUCCEEDED, NULL,
	 "{\"language\":\"twi\",\"content_type\":\"audio/wav\",\"bytes\":4,\"sha256\":\"a40ff3d5900fb7698b8c865041347cb49eccedc8f93945f89629ad104aaecce4\"}",
	 NULL, false},
	{S, OK, 200, "Audio/WAV", "", "ID3", OUTCOME_FAILED, "TTSGenerationError",
	 "Expected audio but received 'Audio/WAV': ID3", "", false},
	{S, OK, 200, "application/octet-stream", "", "\xff\xfb", OUTCOME_FAILED, "TTSGenerationError",
	 "Expected audio but received 'application/octet-stream': \xef\xbf\xbd\xef\xbf\xbd", "", false},
	{S, OK, 200, JSON, "", "{\"error\":{\"message\":\"M\",\"code\":\"EMPTY_TEXT\"}}", OUTCOME_FAILED, "APIError",
	 "M", "EMPTY_TEXT", false},
	{S, OK, 200, "audio/wav", "", "{\"error\":{\"message\":\"M\"}}", OUTCOME_FAILED, "APIError", "M", "", false},
	{S, OK, 400, JSON, "", "{\"error\":{\"message\":\"M\",\"code\":\"INVALID_SPEAKER\"}}", OUTCOME_FAILED,
	 "APIError", "M", "INVALID_SPEAKER", false},
	{S, OK, 200, JSON, "", "{\"error\":1}", OUTCOME_FAILED, "TTSGenerationError",
	 "Expected audio but received 'application/json': {\"error\":1}", "", false},
	{S, OK, 200, "", "", "ID3", OUTCOME_FAILED, "TTSGenerationError",
	 "Expected audio but received 'an unknown content type': ID3", "", false},
	{S, OK, 200, "audio/wav", "", "", OUTCOME_FAILED, "TTSGenerationError",
	 "Expected audio but received 'audio/wav': ", "", false},
	{S, OK, 200, "audio/wav", "", " <html>", OUTCOME_FAILED, "TTSGenerationError",
	 "Expected audio but received 'audio/wav': <html>", "", false},
	{S, OK, 302, "", "", "", OUTCOME_FAILED, "TTSGenerationError",
	 "Expected audio but received 'an unknown content type': ", "", false},
	{S, OK, 503, "", "", "", OUTCOME_RETRY, "APIError", "HTTP 503", "", true},
};

static struct settings settings;
static struct api *api;
static struct call spoken; /* what an answer is read for */

static void setup(void)
{
	static char url[] = "https://api.example.org", key[] = "secret";
	struct error err;

	settings = (struct settings){.khaya_base_url = url,
				     .khaya_api_key = key,
				     .max_response_bytes = 1000,
				     .max_audio_bytes = 1000,
				     .khaya_tts_max_chars = 500};
	api = api_new(&settings, &err);
	ck_assert_ptr_nonnull(api);
}

static void teardown(void)
{
	api_free(api);
}

START_TEST(each_answer_has_its_outcome)
{
	const struct row *row = &rows[_i];
	struct http_response resp = {.end = row->end, .status = row->status, .fault = "reset"};
	struct fault fault;
	struct outcome out;
	struct job job;

	fault_init(&fault);
	outcome_init(&out);
	snprintf(resp.content_type, sizeof resp.content_type, "%s", row->type);
	snprintf(resp.retry_after, sizeof resp.retry_after, "%s", row->retry_after);
	resp.body = BUF_INIT(10000);
	buf_str_add(&resp.body, row->body);
	ck_assert_int_eq(job_parse(&job, row->job, strlen(row->job), "translate", 10000, &fault), 0);
	api_read(api, &job, &spoken, &resp, &out);
	ck_assert_int_eq(out.kind, row->kind);
	if (!row->error)
		ck_assert_str_eq(buf_cstr(&out.result), row->wanted);
	if (!row->error && job.type->kind == JOB_SYNTHESIZE) {
		ck_assert_uint_eq(out.audio.len, strlen(row->body));
		ck_assert_str_eq(buf_cstr(&out.audio), row->body);
	}
	if (row->error) {
		ck_assert_str_eq(out.fault.type, row->error);
		ck_assert_str_eq(buf_cstr(&out.fault.message), row->wanted);
		ck_assert_str_eq(buf_cstr(&out.fault.code), row->code);
		ck_assert_int_eq(out.fault.status_code, row->end == OK ? (int)row->status : 0);
		ck_assert_int_eq(out.fault.retryable, row->retryable);
		ck_assert_str_eq(out.fault.service, "khaya");
	}
	buf_release(&resp.body);
	outcome_release(&out);
	fault_release(&fault);
	job_release(&job);
}
END_TEST

static const struct {
	const char *header;
	int64_t ms;
} waits[] = {{"5", 5000},
	     {" 1.5 ", 1500},
	     {"1e1", 10000},
	     {"0", 0},
	     {"-3", 0},
	     {"999999", 3600000},
	     {"inf", 3600000},
	     {"Infinity", 3600000},
	     {"INF", 3600000},
	     {"I", RETRY_AFTER_NONE},
	     {"nan", RETRY_AFTER_NONE},
	     {"", RETRY_AFTER_NONE},
	     {"soon", RETRY_AFTER_NONE},
	     {"5, 7", RETRY_AFTER_NONE},
	     {"0x10", RETRY_AFTER_NONE},
	     {"Wed, 21 Oct 2026 07:28:00 GMT", RETRY_AFTER_NONE}};

START_TEST(retry_after_is_read_as_seconds)
{
	struct http_response resp = {.end = HTTP_ANSWERED, .status = 503, .body = BUF_INIT(10)};
	struct fault fault;
	struct outcome out;
	struct job job;

	fault_init(&fault);
	outcome_init(&out);
	snprintf(resp.retry_after, sizeof resp.retry_after, "%s", waits[_i].header);
	ck_assert_int_eq(job_parse(&job, T, strlen(T), "translate", 10000, &fault), 0);
	api_read(api, &job, &spoken, &resp, &out);
	ck_assert_int_eq(out.retry_after_ms, waits[_i].ms);
	outcome_release(&out);
	fault_release(&fault);
	job_release(&job);
}
END_TEST

/* Settings of a kind of their own: this version of whichever service; NULL is each one's default. */
static struct settings with_version(const char *version)
{
	static char name[8];
	struct settings s = settings;

	if (version) {
		snprintf(name, sizeof name, "%s", version);
		s.khaya_translation_version = s.khaya_asr_version = s.khaya_tts_version = name;
	}
	return s;
}

static const struct {
	const char *version, *job, *body, *query;
} requests[] = {
#define SPEAKS(more)                                                                                                   \
	"{\"id\":\"a\",\"type\":\"synthesize\",\"text\":\"x\",\"language\":\"twi\",\"speaker\":\"female\"" more "}"
	{NULL, "{\"id\":\"a\",\"text\":\"a\\u00e9 \\\"\"}", "{\"in\":\"a\\u00e9 \\\"\",\"lang\":\"en-tw\"}", NULL},
	{NULL, "{\"id\":\"a\",\"text\":\" \",\"language_pair\":\"eng-twi\"}", "{\"in\":\" \",\"lang\":\"eng-twi\"}",
	 NULL},
	{NULL, S, "{\"text\":\"x\",\"language\":\"twi\"}", NULL},
	{NULL, "{\"id\":\"a\",\"type\":\"synthesize\",\"text\":\"x\",\"language\":\"twi\",\"speaker\":\"female\"}",
	 "{\"text\":\"x\",\"language\":\"twi\",\"speaker\":\"female\"}", NULL},
	{NULL, A, "", "language=twi"},
	{NULL,
	 "{\"id\":\"a\",\"type\":\"transcribe\",\"audio_key\":\"k\",\"language\":\"a b&c=\\u00e9\",\"timestamps\":\"word\"}",
	 "", "language=a%20b%26c%3D%C3%A9&timestamps=word"},
	{NULL, "{\"id\":\"a\",\"type\":\"transcribe\",\"audio_key\":\"k\",\"language\":\"\"}", "", "language="},
	{"v2", T, "{\"in\":\"x\",\"lang\":\"en-tw\"}", NULL},
	{"v1", A, "", "language=twi"},
	{"v1", "{\"id\":\"a\",\"type\":\"transcribe\",\"audio_key\":\"k\",\"timestamps\":\"word\"}", "",
	 "language=twi&timestamps=word"},
	{"v2", S, "{\"text\":\"x\",\"language\":\"twi\"}", NULL},
	{"v2", SPEAKS(""), "{\"text\":\"x\",\"language\":\"twi\",\"speaker_id\":\"female\"}", NULL},
	{"v2", SPEAKS(",\"format\":\"mp3\""),
	 "{\"text\":\"x\",\"language\":\"twi\",\"speaker_id\":\"female\",\"format\":\"mp3\"}", NULL},
	{"v2", SPEAKS(",\"format\":\"ogg\""),
	 "{\"text\":\"x\",\"language\":\"twi\",\"speaker_id\":\"female\",\"format\":\"ogg\"}", NULL},
	{"v2", SPEAKS(",\"format\":\"wav\",\"stream\":true"),
	 "{\"text\":\"x\",\"language\":\"twi\",\"speaker_id\":\"female\",\"format\":\"wav\"}", NULL},
	{"v1", SPEAKS(",\"format\":\"wav\",\"stream\":true"),
	 "{\"text\":\"x\",\"language\":\"twi\",\"speaker\":\"female\"}", NULL},
};

START_TEST(requests_are_exact)
{
	struct settings local = with_version(requests[_i].version);
	struct api *versioned = api_new(&local, NULL);
	struct fault fault;
	struct outcome out;
	struct call call;
	struct job job;

	fault_init(&fault);
	outcome_init(&out);
	call_init(&call);
	ck_assert_int_eq(job_parse(&job, requests[_i].job, strlen(requests[_i].job), "translate", 10000, &fault), 0);
	ck_assert_int_eq(api_build(versioned, &job, &call, &out), 0);
	ck_assert_str_eq(buf_cstr(&call.body), requests[_i].body);
	if (requests[_i].query)
		ck_assert_str_eq(call.request.query, requests[_i].query);
	else
		ck_assert_ptr_null(call.request.query);
	call_release(&call);
	outcome_release(&out);
	fault_release(&fault);
	job_release(&job);
	api_free(versioned);
}
END_TEST

/* The SDK's own checks: no call is made. */
static const struct {
	const char *job, *error;
	int status;
	const char *message;
} refusals[] = {
#define TRANSLATE_MESSAGE "TranslationError", 400, "Text and language pair are required"
#define SPEECH_MESSAGE "TTSGenerationError", 400, "Text and language are required"
	{"{\"id\":\"a\"}", TRANSLATE_MESSAGE},
	{"{\"id\":\"a\",\"text\":\"\"}", TRANSLATE_MESSAGE},
	{"{\"id\":\"a\",\"text\":null}", TRANSLATE_MESSAGE},
	{"{\"id\":\"a\",\"text\":\"x\",\"language_pair\":\"\"}", TRANSLATE_MESSAGE},
	{"{\"id\":\"a\",\"type\":\"synthesize\",\"language\":\"twi\"}", SPEECH_MESSAGE},
	{"{\"id\":\"a\",\"type\":\"synthesize\",\"text\":\"\",\"language\":\"twi\"}", SPEECH_MESSAGE},
	{"{\"id\":\"a\",\"type\":\"synthesize\",\"text\":\"x\"}", SPEECH_MESSAGE},
	{"{\"id\":\"a\",\"type\":\"synthesize\",\"text\":\"x\",\"language\":\"\",\"speaker\":\"robot\"}",
	 SPEECH_MESSAGE},
	{"{\"id\":\"a\",\"type\":\"synthesize\",\"text\":\"x\",\"language\":\"twi\",\"speaker\":\"robot\"}",
	 "TTSGenerationError", 400, "Unknown speaker 'robot'. Supported speakers: female, male_high, male_low"},
	{"{\"id\":\"a\",\"type\":\"synthesize\",\"text\":\"x\",\"language\":\"twi\",\"speaker\":\"\"}",
	 "TTSGenerationError", 400, "Unknown speaker ''. Supported speakers: female, male_high, male_low"},
	{"{\"id\":\"a\",\"type\":\"synthesize\",\"text\":\"x\",\"language\":\"twi\",\"speaker\":\"Female\"}",
	 "TTSGenerationError", 400, "Unknown speaker 'Female'. Supported speakers: female, male_high, male_low"},
	{"{\"id\":\"a\",\"type\":\"synthesize\",\"text\":\"x\",\"language\":\"twi\",\"format\":\"mp3\"}",
	 "TTSGenerationError", 400, "format other than wav needs version v2 of the synthesis API"},
	{"{\"id\":\"a\",\"type\":\"transcribe\",\"audio_key\":\"k\",\"timestamps\":\"true\"}", "ASRTranscriptionError",
	 400, "timestamps must be 'word' or 'segment', got 'true'"},
	{"{\"id\":\"a\",\"type\":\"transcribe\",\"audio_key\":\"k\",\"timestamps\":\"\"}", "ASRTranscriptionError", 400,
	 "timestamps must be 'word' or 'segment', got ''"},
	{"{\"id\":\"a\",\"type\":\"transcribe\",\"audio_key\":\"k\",\"timestamps\":\"Word\"}", "ASRTranscriptionError",
	 400, "timestamps must be 'word' or 'segment', got 'Word'"},
};

/* The same jobs to an adapter without a key: that wins over all. */
START_TEST(what_is_wrong_is_said_before_the_call)
{
	struct settings keyless = settings;
	struct api *without;
	struct fault fault;
	struct outcome out;
	struct call request;
	struct job job;

	keyless.khaya_api_key = NULL;
	without = api_new(&keyless, NULL);
	fault_init(&fault);
	outcome_init(&out);
	call_init(&request);
	ck_assert_int_eq(job_parse(&job, refusals[_i].job, strlen(refusals[_i].job), "translate", 10000, &fault), 0);
	ck_assert_int_eq(api_build(api, &job, &request, &out), -1);
	ck_assert_int_eq(out.kind, OUTCOME_FAILED);
	ck_assert_str_eq(out.fault.type, refusals[_i].error);
	ck_assert_int_eq(out.fault.status_code, refusals[_i].status);
	ck_assert_str_eq(buf_cstr(&out.fault.message), refusals[_i].message);
	ck_assert_str_eq(out.fault.service, "khaya");
	ck_assert(!out.fault.retryable);
	ck_assert_int_eq(api_build(without, &job, &request, &out), -1);
	ck_assert_str_eq(out.fault.type, "AuthenticationError");
	ck_assert_int_eq(out.fault.status_code, 401);
	ck_assert_str_eq(buf_cstr(&out.fault.message), "API key is required");
	call_release(&request);
	outcome_release(&out);
	fault_release(&fault);
	job_release(&job);
	api_free(without);
}
END_TEST

/* Judges body as the answer to T and gives the error object as JSON. */
static struct buf error_json(long status, const char *body)
{
	struct http_response resp = {.end = HTTP_ANSWERED, .status = status, .body = BUF_INIT(1000000)};
	struct buf json = BUF_INIT(1000000);
	struct fault fault;
	struct outcome out;
	struct job job;

	fault_init(&fault);
	outcome_init(&out);
	buf_str_add(&resp.body, body);
	ck_assert_int_eq(job_parse(&job, T, strlen(T), "translate", 10000, &fault), 0);
	api_read(api, &job, &spoken, &resp, &out);
	fault_json(&out.fault, &json);
	buf_release(&resp.body);
	outcome_release(&out);
	fault_release(&fault);
	job_release(&job);
	return json;
}

static const struct {
	const char *body, *json; /* json: what the error object must hold */
} errors[] = {
	{"{\"error\":{\"code\":\"V\",\"message\":\"m\",\"activityId\":\"inner\",\"details\":[{\"code\":\"C\",\"message\":\"d\",\"target\":\"lang\",\"more\":1},7,null,{\"message\":\"e\",\"code\":5},[]]}}",
	 "\"code\":\"V\",\"details\":[{\"code\":\"C\",\"target\":\"lang\",\"message\":\"d\"},{\"code\":null,\"target\":null,\"message\":\"e\"}],\"activity_id\":\"inner\","},
	{"{\"error\":{\"message\":\"m\",\"activityId\":\"inner\",\"details\":{\"code\":\"C\"}},\"activityId\":\"outer\"}",
	 "\"code\":null,\"details\":[],\"activity_id\":\"outer\","},
	{"{\"error\":{\"message\":\"m\",\"activityId\":\"inner\"},\"activityId\":null}",
	 "\"code\":null,\"details\":[],\"activity_id\":\"inner\","},
	{"{\"statusCode\":500,\"message\":\"m\",\"activityId\":\"41d5\"}",
	 "\"code\":null,\"details\":[],\"activity_id\":\"41d5\","},
	{"{\"error\":\"text\",\"message\":\"m\",\"details\":[{\"message\":\"d\"}]}",
	 "\"code\":null,\"details\":[],\"activity_id\":null,"},
};

START_TEST(details_and_activity_id_are_kept)
{
	struct buf json = error_json(400, errors[_i].body);

	ck_assert_msg(strstr(buf_cstr(&json), errors[_i].json) != NULL, "%s", buf_cstr(&json));
	ck_assert_ptr_nonnull(strstr(buf_cstr(&json), "\"message\":\"m\""));
	buf_release(&json);
}
END_TEST

/* A server that says very much is cut, not ignored: as an object, as a string, as another value, as a page. */
START_TEST(long_messages_are_cut)
{
	static const char *const around[][2] = {{"{\"message\":\"", "\"}"}, {"\"", "\""}, {"[\"", "\"]"}};
	struct buf body = BUF_INIT(400000), json;
	size_t whole;

	buf_str_add(&body, around[_i][0]);
	for (int i = 0; i < 100000; i++)
		buf_str_add(&body, "\xc9\x9b");
	buf_str_add(&body, around[_i][1]);
	json = error_json(400, buf_cstr(&body));
	whole = json.len;
	ck_assert_uint_gt(whole, FAULT_MESSAGE_MAX);
	ck_assert_uint_lt(whole, FAULT_MESSAGE_MAX + 200);
	ck_assert_ptr_nonnull(strstr(buf_cstr(&json), "\xc9\x9b\",\"status_code\":400"));
	buf_release(&body);
	buf_release(&json);
}
END_TEST

/* --- What goes over the wire, seen by a server that answers one request. ------------------------------------------------ */

struct exchange {
	struct http_request request;
	struct http_response response;
	struct http *http;
};

static void *perform(void *arg)
{
	struct exchange *e = arg;

	http_perform(e->http, &e->request, &e->response);
	return NULL;
}

static void answer_one(int listener, struct buf *request)
{
	static const char answer[] =
		"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 3\r\n\r\n\"a\"";
	int fd = accept(listener, NULL, NULL);
	char piece[4096];
	ssize_t got;

	/* All of these requests are short and end with "}" or with the audio. */
	while ((got = recv(fd, piece, sizeof piece, 0)) > 0) {
		buf_add(request, piece, (size_t)got);
		if (memchr("}E", request->ptr[request->len - 1], 2) && strstr(request->ptr, "\r\n\r\n"))
			break;
	}
	ck_assert_int_eq(send(fd, answer, sizeof answer - 1, MSG_NOSIGNAL), sizeof answer - 1);
	close(fd);
}

static const struct {
	const char *version, *job, *first_line, *content_type, *key, *body;
} wires[] = {
	{NULL, T, "POST /v1/translate HTTP/1.1\r\n", "application/json", "general",
	 "{\"in\":\"x\",\"lang\":\"en-tw\"}"},
	{NULL, S, "POST /tts/v1/tts HTTP/1.1\r\n", "application/json", "for-speech",
	 "{\"text\":\"x\",\"language\":\"twi\"}"},
	{NULL, "{\"id\":\"a\",\"type\":\"transcribe\",\"audio_key\":\"k\",\"timestamps\":\"segment\"}",
	 "POST /asr/v3/transcribe?language=twi&timestamps=segment HTTP/1.1\r\n", "audio/wav", "general",
	 "RIFF....WAVE"},
	{NULL,
	 "{\"id\":\"a\",\"text\":\"x\",\"traceparent\":\"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\"}",
	 "POST /v1/translate HTTP/1.1\r\n", "application/json", "general", "{\"in\":\"x\",\"lang\":\"en-tw\"}"},
	{NULL, "{\"id\":\"a\",\"text\":\"x\",\"traceparent\":\"00-0a\\r\\nX-Evil: 1\"}",
	 "POST /v1/translate HTTP/1.1\r\n", "application/json", "general", "{\"in\":\"x\",\"lang\":\"en-tw\"}"},
	{"v2", T, "POST /v2/translate HTTP/1.1\r\n", "application/json", "general",
	 "{\"in\":\"x\",\"lang\":\"en-tw\"}"},
	{"v1", A, "POST /asr/v1/transcribe?language=twi HTTP/1.1\r\n", "audio/wav", "general", "RIFF....WAVE"},
	{"v2", A, "POST /asr/v2/transcribe?language=twi HTTP/1.1\r\n", "audio/wav", "general", "RIFF....WAVE"},
	{"v3", A, "POST /asr/v3/transcribe?language=twi HTTP/1.1\r\n", "audio/wav", "general", "RIFF....WAVE"},
	{"v2", S, "POST /tts/v2/synthesize HTTP/1.1\r\n", "application/json", "for-speech",
	 "{\"text\":\"x\",\"language\":\"twi\"}"},
};

static int listen_somewhere(unsigned *port)
{
	struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof any;
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	ck_assert(bind(fd, (struct sockaddr *)&any, sizeof any) == 0 && listen(fd, 1) == 0);
	getsockname(fd, (struct sockaddr *)&any, &len);
	*port = ntohs(any.sin_port);
	return fd;
}

static void assert_header(const struct buf *request, const char *name, const char *value)
{
	char line[200];
	const char *at;

	snprintf(line, sizeof line, "\r\n%s: %s\r\n", name, value);
	at = strstr(buf_cstr(request), line);
	ck_assert_msg(at != NULL, "no%s in %s", line, buf_cstr(request));
	snprintf(line, sizeof line, "\r\n%s: ", name);
	ck_assert_msg(strstr(buf_cstr(request), line) == at && !strstr(at + 1, line), "%s twice in %s", name,
		      buf_cstr(request));
}

START_TEST(the_wire_sees_what_the_sdk_sends)
{
	static char general[] = "general", own[] = "for-speech";
	struct buf request = BUF_INIT(100000);
	struct exchange e = {0};
	struct settings local = with_version(wires[_i].version);
	struct http_shared *shared;
	struct api *to_local;
	struct call request_of;
	struct outcome out;
	struct fault fault;
	struct job job;
	pthread_t thread;
	unsigned port;
	int listener = listen_somewhere(&port);
	char url[100];

	snprintf(url, sizeof url, "http://127.0.0.1:%u", port);
	local.khaya_base_url = url;
	local.khaya_api_key = general;
	local.khaya_tts_api_key = own;
	shared = http_shared_new(NULL, NULL);
	to_local = api_new(&local, NULL);
	fault_init(&fault);
	outcome_init(&out);
	call_init(&request_of);
	e.http = http_new(shared, NULL);
	ck_assert_int_eq(job_parse(&job, wires[_i].job, strlen(wires[_i].job), "translate", 10000, &fault), 0);
	ck_assert_int_eq(api_build(to_local, &job, &request_of, &out), 0);
	ck_assert_int_eq(request_of.wants_audio, job.type->kind == JOB_TRANSCRIBE);
	if (request_of.wants_audio) {
		api_set_audio_head(&request_of, "RIFF....WAVE", 12, 12);
		request_of.request.body = "RIFF....WAVE";
		request_of.request.body_len = 12;
	}
	request_of.request.timeout_ms = 20000;
	e.request = request_of.request;
	pthread_create(&thread, NULL, perform, &e);
	answer_one(listener, &request);
	pthread_join(thread, NULL);
	ck_assert_int_eq(e.response.end, HTTP_ANSWERED);
	ck_assert_msg(strncmp(request.ptr, wires[_i].first_line, strlen(wires[_i].first_line)) == 0, "%s", request.ptr);
	assert_header(&request, "Ocp-Apim-Subscription-Key", wires[_i].key);
	assert_header(&request, "Content-Type", wires[_i].content_type);
	assert_header(&request, "Cache-Control", "no-cache");
	assert_header(&request, "User-Agent", "adwuma/" ADWUMA_VERSION);
	if (strstr(wires[_i].job, "b7ad6b71"))
		assert_header(&request, "traceparent", "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
	else
		ck_assert_ptr_null(strstr(request.ptr, "traceparent"));
	ck_assert_ptr_null(strstr(request.ptr, "X-Evil"));
	ck_assert_str_eq(strstr(request.ptr, "\r\n\r\n") + 4, wires[_i].body);
	http_free(e.http);
	call_release(&request_of);
	outcome_release(&out);
	fault_release(&fault);
	job_release(&job);
	api_free(to_local);
	http_shared_free(shared);
	buf_release(&request);
	close(listener);
}
END_TEST

START_TEST(audio_is_told_by_its_bytes)
{
	ck_assert_str_eq(api_audio_type("RIFF....WAVEfmt ", 16), "audio/wav");
	ck_assert_str_eq(api_audio_type("ID3", 3), "audio/mpeg");
	ck_assert_str_eq(api_audio_type("\xff\xfb", 2), "audio/mpeg");
	ck_assert_str_eq(api_audio_type("fLaC", 4), "audio/flac");
	ck_assert_str_eq(api_audio_type("OggS", 4), "audio/ogg");
	ck_assert_str_eq(api_audio_type("\x1a\x45\xdf\xa3\x9f", 5), "audio/webm");
	ck_assert_str_eq(api_audio_type("....ftypM4A ", 12), "application/octet-stream");
	ck_assert_str_eq(api_audio_type("RIFF", 4), "application/octet-stream");
	ck_assert_str_eq(api_audio_type("", 0), "application/octet-stream");
}
END_TEST

int main(void)
{
	Suite *s = suite_create("khaya");
	TCase *t = tcase_create("all");
	SRunner *r;
	int failed;

	tcase_set_timeout(t, 60);
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_loop_test(t, each_answer_has_its_outcome, 0, sizeof rows / sizeof *rows);
	tcase_add_loop_test(t, retry_after_is_read_as_seconds, 0, sizeof waits / sizeof *waits);
	tcase_add_loop_test(t, requests_are_exact, 0, sizeof requests / sizeof *requests);
	tcase_add_loop_test(t, what_is_wrong_is_said_before_the_call, 0, sizeof refusals / sizeof *refusals);
	tcase_add_loop_test(t, details_and_activity_id_are_kept, 0, sizeof errors / sizeof *errors);
	tcase_add_loop_test(t, long_messages_are_cut, 0, 3);
	tcase_add_loop_test(t, the_wire_sees_what_the_sdk_sends, 0, sizeof wires / sizeof *wires);
	tcase_add_test(t, audio_is_told_by_its_bytes);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
