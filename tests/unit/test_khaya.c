/* SPDX-License-Identifier: MIT
 *
 * The Khaya adapter on recorded bodies: what comes in, what must come out, as a table. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

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
	/* translation */
	{T, OK, 200, JSON, "", "\"\\u0190te s\xc9\x9bn?\"", OUTCOME_SUCCEEDED, NULL, "{\"text\":\"\\u0190te s\xc9\x9bn?\",\"source_language\":\"en\",\"target_language\":\"tw\"}", NULL, false},
	{T, OK, 200, "", "", " \n\"a\"\n", OUTCOME_SUCCEEDED, NULL, "{\"text\":\"a\",\"source_language\":\"en\",\"target_language\":\"tw\"}", NULL, false},
	{T, OK, 200, JSON, "", "\xef\xbb\xbf\"a\"", OUTCOME_SUCCEEDED, NULL, "{\"text\":\"a\",\"source_language\":\"en\",\"target_language\":\"tw\"}", NULL, false},
	{T, OK, 200, JSON, "", "\"\xff\"", OUTCOME_SUCCEEDED, NULL, "{\"text\":\"\xef\xbf\xbd\",\"source_language\":\"en\",\"target_language\":\"tw\"}", NULL, false},
	{T, OK, 200, JSON, "", "{\"out\":\"a\"}", OUTCOME_FAILED, "APIError", "Unexpected JSON in a success response: {\"out\":\"a\"}", "", false},
	{T, OK, 200, JSON, "", "null", OUTCOME_FAILED, "APIError", "Unexpected JSON in a success response: null", "", false},
	{T, OK, 200, JSON, "", "{\"error\":{\"code\":\"C\",\"message\":\"M\"}}", OUTCOME_FAILED, "APIError", "M", "C", false},
	{T, OK, 200, "text/html", "", "<html>  <b>x</b>\n</html>", OUTCOME_FAILED, "APIError", "Expected a JSON response but received 'text/html': <html> <b>x</b> </html>", "", false},
	{T, OK, 200, "", "", "", OUTCOME_FAILED, "APIError", "Expected a JSON response but received 'unknown': ", "", false},
	{T, OK, 204, "", "", "", OUTCOME_FAILED, "APIError", "Expected a JSON response but received 'unknown': ", "", false},
	{T, OK, 302, "text/plain", "", "moved", OUTCOME_FAILED, "APIError", "Expected a JSON response but received 'text/plain': moved", "", false},
	{"{\"id\":\"a\",\"text\":\"x\",\"language_pair\":\"xon_likoonli-eng-x\"}", OK, 200, JSON, "", "\"a\"", OUTCOME_SUCCEEDED, NULL,
	 "{\"text\":\"a\",\"source_language\":\"xon_likoonli\",\"target_language\":\"eng-x\"}", NULL, false},
	{"{\"id\":\"a\",\"text\":\"x\",\"language_pair\":\"en\"}", OK, 200, JSON, "", "\"a\"", OUTCOME_SUCCEEDED, NULL, "{\"text\":\"a\",\"source_language\":\"en\",\"target_language\":\"\"}", NULL,
	 false},
	/* error envelopes */
	{T, OK, 400, JSON, "", "{\"error\":{\"code\":\"VALIDATION_FAILED\",\"message\":\"Bad.\",\"details\":[]}}", OUTCOME_FAILED, "APIError", "Bad.", "VALIDATION_FAILED", false},
	{T, OK, 400, JSON, "", "{\"error\":{\"code\":7}}", OUTCOME_FAILED, "APIError", "HTTP 400", "7", false},
	{T, OK, 400, JSON, "", "{\"error\":\"text\"}", OUTCOME_FAILED, "APIError", "HTTP 400", "", false},
	{T, OK, 400, JSON, "", "{\"type\":\"validation_error\",\"message\":\"too long\"}", OUTCOME_FAILED, "APIError", "too long", "", false},
	{T, OK, 400, JSON, "", "\"just text\"", OUTCOME_FAILED, "APIError", "just text", "", false},
	{T, OK, 400, JSON, "", "[1, 2]", OUTCOME_FAILED, "APIError", "[1, 2]", "", false},
	{T, OK, 400, JSON, "", "{}", OUTCOME_FAILED, "APIError", "HTTP 400", "", false},
	{T, OK, 401, JSON, "", "{ \"statusCode\": 401, \"message\": \"Access denied\" }", OUTCOME_FAILED, "AuthenticationError", "Access denied", "", false},
	{T, OK, 403, JSON, "600", "{ \"statusCode\": 403, \"message\": \"Out of call volume quota. Quota will be replenished in 00:10:00.\" }", OUTCOME_FAILED, "APIError",
	 "Out of call volume quota. Quota will be replenished in 00:10:00.", "", true},
	{T, OK, 403, JSON, "", "{ \"statusCode\": 403, \"message\": \"Out of bandwidth quota.\" }", OUTCOME_FAILED, "APIError", "Out of bandwidth quota.", "", true},
	{T, OK, 403, "text/html", "", "<HTML><TITLE lang=en>\n Web App -\n Unavailable </TITLE>", OUTCOME_FAILED, "APIError",
	 "HTTP 403: Web App - Unavailable (non-JSON response from the API gateway)", "", false},
	{T, OK, 403, "text/html", "", "<title> </title>rest", OUTCOME_FAILED, "APIError", "HTTP 403: <title> </title>rest", "", false},
	{T, OK, 404, JSON, "", "{ \"statusCode\": 404, \"message\": \"Resource not found\" }", OUTCOME_FAILED, "APIError", "Resource not found", "", false},
	{T, OK, 408, "", "", "", OUTCOME_FAILED, "APIError", "HTTP 408", "", false},
	{T, OK, 429, JSON, "9", "{ \"statusCode\": 429, \"message\": \"Rate limit is exceeded.\" }", OUTCOME_RETRY, "RateLimitError", "Rate limit is exceeded. (Retry-After: 9s)", "", true},
	{T, OK, 429, "", "Wed, 21 Oct 2026", "", OUTCOME_RETRY, "RateLimitError", "HTTP 429 (Retry-After: Wed, 21 Oct 2026s)", "", true},
	{T, OK, 500, JSON, "", "{\"statusCode\":500,\"message\":\"Internal server error\",\"activityId\":\"41d5\"}", OUTCOME_RETRY, "APIError", "Internal server error", "", true},
	{T, OK, 500, JSON, "", "{\"error\":{\"code\":\"SYSTEM_ERROR\",\"message\":\"Oops\",\"details\":[]}}", OUTCOME_RETRY, "APIError", "Oops", "SYSTEM_ERROR", true},
	{T, OK, 502, "text/html", "", "bad gateway", OUTCOME_RETRY, "APIError", "HTTP 502: bad gateway", "", true},
	{T, OK, 503, "", "", "", OUTCOME_RETRY, "APIError", "HTTP 503", "", true},
	{T, OK, 504, "", "", " ", OUTCOME_RETRY, "APIError", "HTTP 504", "", true},
	{T, OK, 501, "", "", "", OUTCOME_FAILED, "APIError", "HTTP 501", "", false},
	{T, OK, 505, "", "", "", OUTCOME_FAILED, "APIError", "HTTP 505", "", false},
	{T, OK, 522, "", "", "", OUTCOME_FAILED, "APIError", "HTTP 522", "", false},
	/* transport */
	{T, HTTP_TRANSPORT, 0, "", "", "", OUTCOME_RETRY, "APIError", "Transport error: reset", "", true},
	{T, HTTP_TIMED_OUT, 200, "", "", "", OUTCOME_RETRY, "APIError", "Transport error: reset", "", true},
	{T, HTTP_TOO_LARGE, 200, "", "", "", OUTCOME_FAILED, "APIError", "Transport error: reset", "", false},
	{T, HTTP_REFUSED, 0, "", "", "", OUTCOME_FAILED, "APIError", "Transport error: reset", "", false},
	/* recognition */
	{A, OK, 200, JSON, "", "\"v1 text\"", OUTCOME_SUCCEEDED, NULL, "{\"text\":\"v1 text\",\"language\":\"twi\",\"warnings\":[],\"timings\":null}", NULL, false},
	{A, OK, 200, JSON, "", "{}", OUTCOME_SUCCEEDED, NULL, "{\"text\":\"\",\"language\":\"twi\",\"warnings\":[],\"timings\":null}", NULL, false},
	{A, OK, 200, JSON, "", "{\"text\":null,\"warnings\":null,\"timings\":{}}", OUTCOME_SUCCEEDED, NULL, "{\"text\":\"\",\"language\":\"twi\",\"warnings\":[],\"timings\":null}", NULL, false},
	{A, OK, 200, JSON, "", "{\"text\":\"a\",\"warnings\":\"old code\"}", OUTCOME_SUCCEEDED, NULL, "{\"text\":\"a\",\"language\":\"twi\",\"warnings\":[\"old code\"],\"timings\":null}", NULL, false},
	{A, OK, 200, JSON, "", "{\"text\":\"a\",\"warnings\":[\"w\",5,\"v\"]}", OUTCOME_SUCCEEDED, NULL, "{\"text\":\"a\",\"language\":\"twi\",\"warnings\":[\"w\",\"v\"],\"timings\":null}", NULL, false},
	{A, OK, 200, JSON, "", "{\"text\":\"a\",\"timings\":{\"words\":[{\"word\":\"a\",\"start\":0.0,\"end\":0.12,\"more\":1},{\"word\":\"b\"}],\"segments\":null}}", OUTCOME_SUCCEEDED, NULL,
	 "{\"text\":\"a\",\"language\":\"twi\",\"warnings\":[],\"timings\":{\"unit\":\"seconds\",\"granularity\":\"\",\"words\":[{\"word\":\"a\",\"start\":0,\"end\":0.12}],\"segments\":[]}}", NULL, false},
	{A, OK, 200, JSON, "", "{\"text\":\"a\",\"timings\":{\"unit\":\"ms\",\"granularity\":\"segment\",\"segments\":[{\"text\":\"s\",\"start\":1,\"end\":2}]}}", OUTCOME_SUCCEEDED, NULL,
	 "{\"text\":\"a\",\"language\":\"twi\",\"warnings\":[],\"timings\":{\"unit\":\"ms\",\"granularity\":\"segment\",\"words\":[],\"segments\":[{\"text\":\"s\",\"start\":1,\"end\":2}]}}", NULL, false},
	{A, OK, 200, JSON, "", "null", OUTCOME_FAILED, "APIError", "Unexpected JSON in a success response: null", "", false},
	{A, OK, 200, JSON, "", "[]", OUTCOME_FAILED, "APIError", "Unexpected JSON in a success response: []", "", false},
	{A, OK, 200, JSON, "", "{\"error\":{\"message\":\"M\",\"code\":\"INVALID_AUDIO_FORMAT\"}}", OUTCOME_FAILED, "APIError", "M", "INVALID_AUDIO_FORMAT", false},
	{A, OK, 200, "text/html", "", "<p>", OUTCOME_FAILED, "APIError", "Expected a JSON response but received 'text/html': <p>", "", false},
	/* synthesis */
	{S, OK, 200, "audio/wav", "", "RIFF....WAVE", OUTCOME_SUCCEEDED, NULL,
	 "{\"language\":\"twi\",\"content_type\":\"audio/wav\",\"bytes\":12,\"sha256\":\"ad23424c7a7d04bb5cb21b08ffd7d6a93c0e22b5e9b93cc2e9df30a2ac1b3a67\"}", NULL, false},
	{S, OK, 200, "audio/mpeg", "", "ID3xyz", OUTCOME_SUCCEEDED, NULL, "", NULL, false},
	{S, OK, 200, "", "", "RIFF", OUTCOME_SUCCEEDED, NULL, "", NULL, false},
	{S, OK, 200, JSON, "", "{\"error\":1}", OUTCOME_FAILED, "TTSGenerationError", "Expected audio but received 'application/json': {\"error\":1}", "", false},
	{S, OK, 200, "", "", "ID3", OUTCOME_FAILED, "TTSGenerationError", "Expected audio but received 'an unknown content type': ID3", "", false},
	{S, OK, 200, "audio/wav", "", "", OUTCOME_FAILED, "TTSGenerationError", "Expected audio but received 'audio/wav': ", "", false},
	{S, OK, 200, "audio/wav", "", " <html>", OUTCOME_FAILED, "TTSGenerationError", "Expected audio but received 'audio/wav': <html>", "", false},
	{S, OK, 302, "", "", "", OUTCOME_FAILED, "TTSGenerationError", "Expected audio but received 'an unknown content type': ", "", false},
	{S, OK, 503, "", "", "", OUTCOME_RETRY, "APIError", "HTTP 503", "", true},
};

static struct settings settings;
static struct api *api;

static void setup(void)
{
	static char url[] = "https://api.example.org", key[] = "secret";
	struct error err;

	settings = (struct settings){.khaya_base_url = url, .khaya_api_key = key, .max_response_bytes = 1000, .max_audio_bytes = 1000};
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
	api_read(api, &job, &resp, &out);
	ck_assert_int_eq(out.kind, row->kind);
	if (!row->error && *row->wanted && job.type->kind != JOB_SYNTHESIZE)
		ck_assert_str_eq(buf_cstr(&out.result), row->wanted);
	if (!row->error && job.type->kind == JOB_SYNTHESIZE)
		ck_assert_uint_eq(out.audio.len, strlen(row->body));
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
} waits[] = {{"5", 5000}, {" 1.5 ", 1500}, {"1e1", 10000}, {"0", 0}, {"-3", 0}, {"999999", 3600000}, {"inf", 3600000}, {"nan", RETRY_AFTER_NONE}, {"", RETRY_AFTER_NONE}, {"soon", RETRY_AFTER_NONE}, {"5, 7", RETRY_AFTER_NONE}, {"0x10", RETRY_AFTER_NONE}, {"Wed, 21 Oct 2026 07:28:00 GMT", RETRY_AFTER_NONE}};

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
	api_read(api, &job, &resp, &out);
	ck_assert_int_eq(out.retry_after_ms, waits[_i].ms);
	outcome_release(&out);
	fault_release(&fault);
	job_release(&job);
}
END_TEST

static const struct {
	const char *job, *body, *query;
} requests[] = {
	{"{\"id\":\"a\",\"text\":\"a\\u00e9 \\\"\"}", "{\"in\":\"a\\u00e9 \\\"\",\"lang\":\"en-tw\"}", NULL},
	{"{\"id\":\"a\",\"text\":\" \",\"language_pair\":\"eng-twi\"}", "{\"in\":\" \",\"lang\":\"eng-twi\"}", NULL},
	{S, "{\"text\":\"x\",\"language\":\"twi\"}", NULL},
	{"{\"id\":\"a\",\"type\":\"synthesize\",\"text\":\"x\",\"language\":\"twi\",\"speaker\":\"female\"}", "{\"text\":\"x\",\"language\":\"twi\",\"speaker\":\"female\"}", NULL},
	{A, "", "language=twi"},
	{"{\"id\":\"a\",\"type\":\"transcribe\",\"audio_key\":\"k\",\"language\":\"a b&c=\\u00e9\",\"timestamps\":\"word\"}", "", "language=a%20b%26c%3D%C3%A9&timestamps=word"},
	{"{\"id\":\"a\",\"type\":\"transcribe\",\"audio_key\":\"k\",\"language\":\"\"}", "", "language="},
};

START_TEST(requests_are_exact)
{
	struct fault fault;
	struct outcome out;
	struct call call;
	struct job job;

	fault_init(&fault);
	outcome_init(&out);
	call_init(&call);
	ck_assert_int_eq(job_parse(&job, requests[_i].job, strlen(requests[_i].job), "translate", 10000, &fault), 0);
	ck_assert_int_eq(api_build(api, &job, &call, &out), 0);
	ck_assert_str_eq(buf_cstr(&call.body), requests[_i].body);
	if (requests[_i].query)
		ck_assert_str_eq(call.request.query, requests[_i].query);
	else
		ck_assert_ptr_null(call.request.query);
	call_release(&call);
	outcome_release(&out);
	fault_release(&fault);
	job_release(&job);
}
END_TEST

START_TEST(audio_is_told_by_its_bytes)
{
	ck_assert_str_eq(api_audio_type("RIFF....WAVEfmt ", 16), "audio/wav");
	ck_assert_str_eq(api_audio_type("ID3", 3), "audio/mpeg");
	ck_assert_str_eq(api_audio_type("\xff\xfb", 2), "audio/mpeg");
	ck_assert_str_eq(api_audio_type("fLaC", 4), "audio/flac");
	ck_assert_str_eq(api_audio_type("OggS", 4), "audio/ogg");
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

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_loop_test(t, each_answer_has_its_outcome, 0, sizeof rows / sizeof *rows);
	tcase_add_loop_test(t, retry_after_is_read_as_seconds, 0, sizeof waits / sizeof *waits);
	tcase_add_loop_test(t, requests_are_exact, 0, sizeof requests / sizeof *requests);
	tcase_add_test(t, audio_is_told_by_its_bytes);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
