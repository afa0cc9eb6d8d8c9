/* SPDX-License-Identifier: MIT
 *
 * The parts of a download that whole systems are too slow or too far away for; the rest is tests/system/test_audio_url.py. */
#include <arpa/inet.h>
#include <check.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "http/fetch.h"

#define TIMEOUT_MS 20000 /* never reached unless something hangs */

static struct http_shared *shared;
static struct http *http;
static int listener, file;
static char url[64];
static const char *answer; /* then silence until the client goes */
static pthread_t server;

static void *serve(void *unused)
{
	int fd;

	while ((fd = accept(listener, NULL, NULL)) >= 0) {
		char piece[4096];
		ssize_t got = recv(fd, piece, sizeof piece, 0);

		if (got > 0 && send(fd, answer, strlen(answer), MSG_NOSIGNAL) > 0)
			while (recv(fd, piece, sizeof piece, 0) > 0)
				;
		close(fd);
	}
	return unused;
}

static void setup(void)
{
	struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
	socklen_t len = sizeof at;
	struct error err = {0};

	shared = http_shared_new(NULL, &err);
	ck_assert_ptr_nonnull(shared);
	http = http_new(shared, &err);
	ck_assert_ptr_nonnull(http);
	file = memfd_create("fetched", MFD_CLOEXEC);
	listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	ck_assert_int_eq(bind(listener, (struct sockaddr *)(void *)&at, sizeof at), 0);
	ck_assert_int_eq(listen(listener, 8), 0);
	ck_assert_int_eq(getsockname(listener, (struct sockaddr *)(void *)&at, &len), 0);
	snprintf(url, sizeof url, "http://127.0.0.1:%u/a", (unsigned)ntohs(at.sin_port));
	answer = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nRIFF";
	ck_assert_int_eq(pthread_create(&server, NULL, serve, NULL), 0);
}

static void teardown(void)
{
	shutdown(listener, SHUT_RDWR);
	pthread_join(server, NULL);
	close(listener);
	close(file);
	http_free(http);
	http_shared_free(shared);
}

static bool any(const void *ctx, const char *host, size_t n)
{
	(void)ctx;
	return n == strlen(host);
}

static struct fetch_response fetch(int64_t stall_s, bool (*takes_http)(const void *, const char *, size_t))
{
	struct fetch_request req = {.url = url,
				    .allow = "127.0.0.1",
				    .takes_http = takes_http,
				    .fd = file,
				    .max_bytes = 1000,
				    .timeout_ms = TIMEOUT_MS,
				    .stall_s = stall_s};
	struct fetch_response out;

	http_fetch(http, &req, &out);
	return out;
}

START_TEST(bytes_go_to_the_file)
{
	struct fetch_response out = fetch(30, any);
	char got[8] = "";

	ck_assert_int_eq(out.end, FETCH_DONE);
	ck_assert(out.tried);
	ck_assert_int_eq(out.bytes, 4);
	ck_assert_int_eq(pread(file, got, sizeof got, 0), 4);
	ck_assert_str_eq(got, "RIFF");
}
END_TEST

START_TEST(http_needs_an_exception)
{
	struct fetch_response out = fetch(30, NULL);

	ck_assert_int_eq(out.end, FETCH_REFUSED);
	ck_assert(!out.tried);
	ck_assert_ptr_nonnull(strstr(out.fault, "must begin with https://"));
}
END_TEST

static const char *const silences[] = {"HTTP/1.1 200 OK\r\nContent-Length: 400\r\n\r\nRIFF", "HTTP/1.1 200 OK\r\n"};

START_TEST(a_silent_server_is_left)
{
	int64_t began_ms = clock_mono_ms();
	struct fetch_response out;

	answer = silences[_i];
	out = fetch(1, any);
	ck_assert_int_eq(out.end, FETCH_FAILED);
	ck_assert_msg(strstr(out.fault, "127.0.0.1: Operation too slow") == out.fault, "%s", out.fault);
	ck_assert_int_lt(clock_mono_ms() - began_ms, TIMEOUT_MS / 2);
}
END_TEST

START_TEST(an_abort_counts_before_it_begins)
{
	struct fetch_response out;

	http_abort(http);
	out = fetch(30, any);
	ck_assert_int_eq(out.end, FETCH_ABORTED);
	http_unabort(http);
	out = fetch(30, any);
	ck_assert_int_eq(out.end, FETCH_DONE);
}
END_TEST

START_TEST(time_is_up_for_all_of_it)
{
	struct fetch_request req = {.url = url,
				    .allow = "127.0.0.1",
				    .takes_http = any,
				    .fd = file,
				    .max_bytes = 1000,
				    .timeout_ms = 300,
				    .stall_s = 30};
	struct fetch_response out;

	answer = silences[0];
	http_fetch(http, &req, &out);
	ck_assert_int_eq(out.end, FETCH_FAILED);
	ck_assert_ptr_nonnull(strstr(out.fault, "timed out"));
}
END_TEST

int main(void)
{
	Suite *s = suite_create("fetch");
	TCase *t = tcase_create("all");
	SRunner *r;
	int failed;

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 60);
	tcase_add_test(t, bytes_go_to_the_file);
	tcase_add_test(t, http_needs_an_exception);
	tcase_add_loop_test(t, a_silent_server_is_left, 0, sizeof silences / sizeof *silences);
	tcase_add_test(t, an_abort_counts_before_it_begins);
	tcase_add_test(t, time_is_up_for_all_of_it);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
