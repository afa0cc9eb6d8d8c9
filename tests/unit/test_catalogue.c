/* SPDX-License-Identifier: MIT
 *
 * Catalogues on recorded bodies: what comes in, what list or error must come out, as tables. */
#include <arpa/inet.h>
#include <check.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "api/catalogue.h"

#define TRANSLATE CATALOGUE_TRANSLATE
#define ASR CATALOGUE_ASR
#define TTS CATALOGUE_TTS
#define SPEAKERS CATALOGUE_SPEAKERS
#define UNEXPECTED "Unexpected JSON in a success response: "

static const struct {
	enum catalogue_kind kind;
	const char *body, *list; /* "code=name;" of each entry */
} lists[] = {
	{TRANSLATE, "{\"languages\": {\"twi\": \"Twi\", \"eng\": \"English\"}}", "eng=English;twi=Twi;"},
	{TRANSLATE, "{\"languages\":{\"yo\":\"Yoruba\",\"tw\":\"Twi\",\"ee\":\"Ewe\"},\"more\":1}",
	 "ee=Ewe;tw=Twi;yo=Yoruba;"},
	{ASR, "{\"languages\": [{\"code\": \"twi\", \"name\": \"Twi\"},{\"name\":\"Ewe\",\"code\":\"ewe\"}]}",
	 "ewe=Ewe;twi=Twi;"},
	{TTS, "{\"languages\": {\"Asante Twi\": \"twi\", \"Akuapem Twi\": \"atw\"}}",
	 "atw=Akuapem Twi;twi=Asante Twi;"},
	{SPEAKERS, "{\"speakers\": {\"Multilingual\": [\"male_low\",\"male_high\",\"female\"]}}",
	 "female=Multilingual;male_high=Multilingual;male_low=Multilingual;"},
	{SPEAKERS, "{\"speakers\":{\"Twi\":[\"b\",\"a\"],\"Ewe\":[\"c\"]}}", "c=Ewe;a=Twi;b=Twi;"},
	/* another's shape */
	{TRANSLATE, "{\"languages\":[{\"code\":\"twi\",\"name\":\"Twi\"}]}", "twi=Twi;"},
	{ASR, "{\"languages\":{\"twi\":\"Twi\"}}", "twi=Twi;"},
	{TTS, "{\"languages\":[{\"code\":\"twi\",\"name\":\"Twi\"},\"ewe\"]}", "ewe=;twi=Twi;"},
	{SPEAKERS, "{\"speakers\":[\"female\",\"male_low\"]}", "female=;male_low=;"},
	/* junk in between */
	{TRANSLATE, "{\"languages\":{\"twi\":\"Twi\",\"a\":null,\"b\":5,\"\":\"none\",\"gaa\":\"\"}}", "gaa=;twi=Twi;"},
	{ASR,
	 "{\"languages\":[null,5,{},{\"code\":7},{\"name\":\"x\"},{\"code\":\"\"},{\"code\":\"ga\",\"name\":null}]}",
	 "ga=;"},
	{TTS, "{\"languages\":{\"Twi\":\"\",\"Ga\":[],\"Ewe\":{}}}", ""},
	{SPEAKERS, "{\"speakers\":{\"M\":[1,null,\"female\",[\"x\"]],\"N\":\"solo\",\"O\":{}}}", "female=M;solo=N;"},
	{TRANSLATE, "{\"languages\":{}}", ""},
	{ASR, "\xef\xbb\xbf{\"languages\":[{\"code\":\"twi\",\"name\":\"Tw\xff\"}]}", "twi=Tw\xef\xbf\xbd;"},
	{TRANSLATE, "{\"languages\":{\"twi\":\"Twi\",\"twi\":\"Akan\"}}", "twi=Akan;twi=Twi;"},
};

static const struct {
	enum http_end end;
	long status;
	const char *type, *retry_after, *body;
	enum outcome_kind kind;
	const char *error, *message, *code;
	int64_t retry_after_ms;
} errors[] = {
	{HTTP_ANSWERED, 200, "application/json", "", "{\"languages\":\"none\"}", OUTCOME_FAILED, "APIError",
	 UNEXPECTED "{\"languages\":\"none\"}", "", RETRY_AFTER_NONE},
	{HTTP_ANSWERED, 200, "application/json", "", "[]", OUTCOME_FAILED, "APIError", UNEXPECTED "[]", "",
	 RETRY_AFTER_NONE},
	{HTTP_ANSWERED, 200, "application/json", "", "null", OUTCOME_FAILED, "APIError", UNEXPECTED "null", "",
	 RETRY_AFTER_NONE},
	{HTTP_ANSWERED, 200, "application/json", "", "{\"speakers\":{}}", OUTCOME_FAILED, "APIError",
	 UNEXPECTED "{\"speakers\":{}}", "", RETRY_AFTER_NONE},
	{HTTP_ANSWERED, 200, "application/json", "", "{\"error\":{\"code\":\"C\",\"message\":\"M\"},\"languages\":{}}",
	 OUTCOME_FAILED, "APIError", "M", "C", RETRY_AFTER_NONE},
	{HTTP_ANSWERED, 200, "text/html", "", "<p>", OUTCOME_FAILED, "APIError",
	 "Expected a JSON response but received 'text/html': <p>", "", RETRY_AFTER_NONE},
	{HTTP_ANSWERED, 204, "", "", "", OUTCOME_FAILED, "APIError",
	 "Expected a JSON response but received 'unknown': ", "", RETRY_AFTER_NONE},
	{HTTP_ANSWERED, 401, "application/json", "", "{ \"statusCode\": 401, \"message\": \"no secret-key here\" }",
	 OUTCOME_FAILED, "AuthenticationError", "no *** here", "", RETRY_AFTER_NONE},
	{HTTP_ANSWERED, 404, "application/json", "", "{ \"statusCode\": 404, \"message\": \"Resource not found\" }",
	 OUTCOME_FAILED, "APIError", "Resource not found", "", RETRY_AFTER_NONE},
	{HTTP_ANSWERED, 429, "application/json", "9", "{ \"message\": \"Slow down.\" }", OUTCOME_RETRY,
	 "RateLimitError", "Slow down. (Retry-After: 9s)", "", 9000},
	{HTTP_ANSWERED, 500, "application/json", "", "{\"error\":{\"code\":\"SYSTEM_ERROR\",\"message\":\"Oops\"}}",
	 OUTCOME_RETRY, "APIError", "Oops", "SYSTEM_ERROR", RETRY_AFTER_NONE},
	{HTTP_TRANSPORT, 0, "", "", "", OUTCOME_RETRY, "APIError", "Transport error: reset", "", RETRY_AFTER_NONE},
	{HTTP_TOO_LARGE, 200, "", "", "", OUTCOME_FAILED, "APIError", "Transport error: reset", "", RETRY_AFTER_NONE},
};

static struct settings settings;

static void setup(void)
{
	static char url[] = "https://api.example.org", key[] = "secret-key";

	settings = (struct settings){.khaya_base_url = url, .khaya_api_key = key};
}

static struct http_response answer(enum http_end end, long status, const char *type, const char *body)
{
	struct http_response resp = {.end = end, .status = status, .body = BUF_INIT(10000), .fault = "reset"};

	snprintf(resp.content_type, sizeof resp.content_type, "%s", type);
	buf_str_add(&resp.body, body);
	return resp;
}

START_TEST(each_shape_gives_its_list)
{
	struct http_response resp = answer(HTTP_ANSWERED, 200, "application/json", lists[_i].body);
	struct buf list = BUF_INIT(10000);
	struct catalogue c;
	struct outcome out;

	outcome_init(&out);
	catalogue_read(lists[_i].kind, &settings, &resp, &c, &out);
	ck_assert_int_eq(out.kind, OUTCOME_SUCCEEDED);
	for (size_t i = 0; i < c.n; i++)
		buf_printf(&list, "%s=%s;", c.entries[i].code, c.entries[i].name);
	ck_assert_str_eq(buf_cstr(&list), lists[_i].list);
	catalogue_release(&c);
	outcome_release(&out);
	buf_release(&resp.body);
	buf_release(&list);
}
END_TEST

START_TEST(what_is_no_list_is_an_error)
{
	struct http_response resp = answer(errors[_i].end, errors[_i].status, errors[_i].type, errors[_i].body);
	struct catalogue c;
	struct outcome out;

	outcome_init(&out);
	snprintf(resp.retry_after, sizeof resp.retry_after, "%s", errors[_i].retry_after);
	catalogue_read(CATALOGUE_TRANSLATE, &settings, &resp, &c, &out);
	ck_assert_int_eq(out.kind, errors[_i].kind);
	ck_assert_str_eq(out.fault.type, errors[_i].error);
	ck_assert_str_eq(buf_cstr(&out.fault.message), errors[_i].message);
	ck_assert_str_eq(buf_cstr(&out.fault.code), errors[_i].code);
	ck_assert_int_eq(out.fault.status_code, errors[_i].end == HTTP_ANSWERED ? (int)errors[_i].status : 0);
	ck_assert_str_eq(out.fault.service, "khaya");
	ck_assert_int_eq(out.retry_after_ms, errors[_i].retry_after_ms);
	ck_assert(!c.entries && !c.body);
	outcome_release(&out);
	buf_release(&resp.body);
}
END_TEST

/* --- Where they are got from, seen by a server that answers one request. ------------------------------------------------ */

static const struct {
	enum catalogue_kind kind;
	const char *version, *first_line, *key;
} wires[] = {
	{TRANSLATE, NULL, "GET /v1/languages HTTP/1.1\r\n", "general"},
	{TRANSLATE, "v2", "GET /v2/languages HTTP/1.1\r\n", "general"},
	{ASR, NULL, "GET /asr/v3/languages HTTP/1.1\r\n", "general"},
	{ASR, "v1", "GET /asr/v3/languages HTTP/1.1\r\n", "general"},
	{ASR, "v2", "GET /asr/v3/languages HTTP/1.1\r\n", "general"},
	{TTS, NULL, "GET /tts/v1/languages HTTP/1.1\r\n", "for-speech"},
	{TTS, "v2", "GET /tts/v2/languages HTTP/1.1\r\n", "for-speech"},
	{SPEAKERS, "v1", "GET /tts/v1/speakers HTTP/1.1\r\n", "for-speech"},
	{SPEAKERS, "v2", "GET /tts/v2/speakers HTTP/1.1\r\n", "for-speech"},
};

struct server {
	int listener;
	char request[4096];
};

static void *serve(void *arg)
{
	static const char said[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}";
	struct server *s = arg;
	int fd = accept(s->listener, NULL, NULL);
	size_t n = 0;
	ssize_t got;

	while (n < sizeof s->request - 1 && !strstr(s->request, "\r\n\r\n") &&
	       (got = recv(fd, s->request + n, sizeof s->request - 1 - n, 0)) > 0)
		n += (size_t)got;
	ck_assert_int_eq(send(fd, said, sizeof said - 1, MSG_NOSIGNAL), sizeof said - 1);
	close(fd);
	return NULL;
}

START_TEST(the_wire_sees_the_path_and_the_key)
{
	struct sockaddr_in any = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	static char general[] = "general", own[] = "for-speech";
	struct http_response resp = {0};
	struct settings local = settings;
	struct server server = {0};
	struct http_request req = {.method = "GET", .timeout_ms = 20000, .max_response_bytes = 1000};
	socklen_t len = sizeof any;
	char url[100], version[8], header[100];
	struct http_target *target;
	struct http_shared *shared;
	struct http *http;
	pthread_t thread;

	server.listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ck_assert(bind(server.listener, (struct sockaddr *)&any, sizeof any) == 0 && listen(server.listener, 1) == 0);
	getsockname(server.listener, (struct sockaddr *)&any, &len);
	snprintf(url, sizeof url, "http://127.0.0.1:%u", ntohs(any.sin_port));
	local.khaya_base_url = url;
	local.khaya_api_key = general;
	local.khaya_tts_api_key = own;
	if (wires[_i].version) {
		snprintf(version, sizeof version, "%s", wires[_i].version);
		local.khaya_translation_version = local.khaya_asr_version = local.khaya_tts_version = version;
	}
	shared = http_shared_new(NULL, NULL);
	http = http_new(shared, NULL);
	target = catalogue_target(wires[_i].kind, &local, NULL);
	ck_assert_ptr_nonnull(target);
	req.target = target;
	pthread_create(&thread, NULL, serve, &server);
	http_perform(http, &req, &resp);
	pthread_join(thread, NULL);
	ck_assert_int_eq(resp.end, HTTP_ANSWERED);
	ck_assert_msg(strncmp(server.request, wires[_i].first_line, strlen(wires[_i].first_line)) == 0, "%s",
		      server.request);
	snprintf(header, sizeof header, "\r\nOcp-Apim-Subscription-Key: %s\r\n", wires[_i].key);
	ck_assert_ptr_nonnull(strstr(server.request, header));
	http_free(http);
	http_target_free(target);
	http_shared_free(shared);
	close(server.listener);
}
END_TEST

START_TEST(without_a_key_there_is_none)
{
	struct error err = {0};

	settings.khaya_api_key = NULL;
	ck_assert_ptr_null(catalogue_target(CATALOGUE_SPEAKERS, &settings, &err));
	ck_assert_int_eq(err.code, ERR_CONFIG);
	ck_assert_str_eq(err.msg, "API key is required");
}
END_TEST

int main(void)
{
	Suite *s = suite_create("catalogue");
	TCase *t = tcase_create("all");
	SRunner *r;
	int failed;

	tcase_set_timeout(t, 60);
	tcase_add_checked_fixture(t, setup, NULL);
	tcase_add_loop_test(t, each_shape_gives_its_list, 0, sizeof lists / sizeof *lists);
	tcase_add_loop_test(t, what_is_no_list_is_an_error, 0, sizeof errors / sizeof *errors);
	tcase_add_loop_test(t, the_wire_sees_the_path_and_the_key, 0, sizeof wires / sizeof *wires);
	tcase_add_test(t, without_a_key_there_is_none);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
