/* SPDX-License-Identifier: MIT
 *
 * Log lines as they leave the process. Standard error is a datagram socket here, so each write() is seen by itself. */
#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/json.h"
#include "base/log.h"
#include "base/utf8.h"

#define THREADS 4
#define LINES_EACH 200

static int ends[2], real_stderr;
static char line[LOG_LINE_MAX * 2];

static void setup(void)
{
	real_stderr = dup(STDERR_FILENO);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_DGRAM, 0, ends), 0);
	ck_assert_int_eq(dup2(ends[1], STDERR_FILENO), STDERR_FILENO);
	log_open("adwumad", LOG_INFO, LOG_LOGFMT);
}

static void teardown(void)
{
	dup2(real_stderr, STDERR_FILENO);
	close(real_stderr);
	close(ends[0]);
	close(ends[1]);
}

/* The next write() whole, as a string without the newline that must be its last and only one. */
static size_t next_line(void)
{
	ssize_t n = recv(ends[0], line, sizeof line - 1, MSG_DONTWAIT);

	ck_assert_int_gt(n, 0);
	ck_assert_int_le(n, LOG_LINE_MAX);
	line[n] = '\0';
	ck_assert_ptr_eq(memchr(line, '\n', (size_t)n), line + n - 1);
	ck_assert(utf8_valid(line, (size_t)n));
	line[--n] = '\0';
	return (size_t)n;
}

static void nothing_written(void)
{
	ck_assert_int_eq(recv(ends[0], line, sizeof line, MSG_DONTWAIT), -1);
	ck_assert_int_eq(errno, EAGAIN);
}

/* The line behind its time stamp. */
static const char *behind_stamp(void)
{
	next_line();
	ck_assert_int_eq(strncmp(line, "ts=", 3), 0);
	ck_assert(strlen(line) > 28 && line[27] == ' ');
	return line + 28;
}

static int64_t stamped_ms(const char *s)
{
	struct tm tm = {0};
	const char *rest = strptime(s, "%Y-%m-%dT%H:%M:%S", &tm);
	int ms;

	ck_assert_ptr_nonnull(rest);
	ck_assert(rest[0] == '.' && rest[4] == 'Z');
	ms = atoi(rest + 1);
	return (int64_t)timegm(&tm) * 1000 + ms;
}

START_TEST(a_line_of_logfmt)
{
	log_event(LOG_INFO, "redis lost", "reason", "timed out", "host", "r1", "port", log_int(6379), "path",
		  "/a/b.c-d:e", NULL);
	ck_assert_str_eq(
		behind_stamp(),
		"level=info program=adwumad event=\"redis lost\" reason=\"timed out\" host=r1 port=6379 path=/a/b.c-d:e");
	nothing_written();
}
END_TEST

START_TEST(the_time_is_now_in_utc)
{
	int64_t before = clock_real_ms(), at;

	setenv("TZ", "America/New_York", 1);
	tzset();
	log_event(LOG_WARN, "x", NULL);
	next_line();
	at = stamped_ms(line + 3);
	ck_assert(at >= before && at <= clock_real_ms());
}
END_TEST

START_TEST(quotes_only_where_needed)
{
	static const char *const pairs[][2] = {
		{"plain", "v=plain"},
		{"", "v=\"\""},
		{"a b", "v=\"a b\""},
		{"a=b", "v=\"a=b\""},
		{"\"x\"", "v=\"\\\"x\\\"\""},
		{"say \"x\"", "v=\"say \\\"x\\\"\""},
		{"a\\b", "v=\"a\\\\b\""},
		{"a\nlevel=error", "v=\"a\\nlevel=error\""},
		{"\x1b[31m", "v=\"\\u001b[31m\""},
		{"\x7f", "v=\"\\u007f\""},
		{"\xc9\x9b", "v=\"\xc9\x9b\""},
		{"\xff", "v=\"" UTF8_REPLACEMENT "\""},
		{NULL, "v=\"\""},
	};

	for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
		log_event(LOG_INFO, "e", "v", pairs[i][0], NULL);
		ck_assert_str_eq(strstr(behind_stamp(), "v="), pairs[i][1]);
	}
}
END_TEST

START_TEST(no_byte_breaks_a_line)
{
	char all[256];

	for (int c = 1; c < 256; c++)
		all[c - 1] = (char)c;
	all[255] = '\0';
	for (int form = LOG_LOGFMT; form <= LOG_JSON; form++) {
		log_open("adwumad", LOG_INFO, (enum log_format)form);
		log_event(LOG_ERROR, all, "v", all, NULL);
		next_line();
		for (const char *s = line; *s; s++)
			ck_assert((unsigned char)*s >= 0x20 && *s != 0x7f);
	}
	ck_assert_int_eq(json_scan(line, strlen(line), NULL, NULL, NULL), JSON_OK);
}
END_TEST

START_TEST(lower_levels_are_not_written)
{
	static const char *const names[] = {"level=debug", "level=info", "level=warn", "level=error"};

	for (int lowest = LOG_DEBUG; lowest <= LOG_ERROR; lowest++) {
		log_open("adwumad", (enum log_level)lowest, LOG_LOGFMT);
		for (int level = LOG_DEBUG; level <= LOG_ERROR; level++) {
			ck_assert_int_eq(log_enabled((enum log_level)level), level >= lowest);
			log_event((enum log_level)level, "e", NULL);
			if (level < lowest)
				nothing_written();
			else
				ck_assert_int_eq(strncmp(behind_stamp(), names[level], strlen(names[level])), 0);
		}
	}
}
END_TEST

static void join(void *ctx, struct span key, struct span value)
{
	struct buf *all = ctx;

	buf_add(all, key.ptr, key.len);
	buf_char(all, ':');
	if (json_key_is(key, "ts")) {
		ck_assert_int_eq(stamped_ms(value.ptr + 1) > 0, 1);
		buf_char(all, 'T');
	} else {
		ck_assert(json_span_string(value, all));
	}
	buf_char(all, '|');
}

START_TEST(a_line_of_json_has_the_same_fields)
{
	struct buf all = BUF_INIT(1000);
	size_t n;

	log_open("adwumad", LOG_INFO, LOG_JSON);
	log_event(LOG_WARN, "redis lost", "reason", "say \"x\"\n", "empty", "", "none", NULL, NULL);
	n = next_line();
	ck_assert_int_eq(json_scan(line, n, NULL, join, &all), JSON_OK);
	ck_assert_str_eq(all.ptr, "ts:T|level:warn|program:adwumad|event:redis lost|reason:say \"x\"\n|empty:|none:|");
	buf_release(&all);
}
END_TEST

/* One value cannot push out those behind it, and is cut between characters. */
START_TEST(a_long_value_is_cut)
{
	char long_value[4 * LOG_LINE_MAX];

	for (size_t i = 0; i + 2 < sizeof long_value; i += 2)
		memcpy(long_value + i, "\xc9\x9b", 3);
	long_value[0] = 'a'; /* the cut falls into a character unless it is moved */
	long_value[1] = 'b';
	memmove(long_value + 1, long_value + 2, strlen(long_value + 2) + 1);
	log_event(LOG_INFO, "e", "v", long_value, "behind", "it", NULL);
	behind_stamp();
	ck_assert_ptr_nonnull(strstr(line, "\xc9\x9b\" behind=it"));
	ck_assert_ptr_null(strstr(line, UTF8_REPLACEMENT));
	memset(long_value, 'x', sizeof long_value);
	long_value[sizeof long_value - 1] = '\0';
	log_event(LOG_INFO, "e", "v", long_value, "behind", "it", NULL);
	behind_stamp();
	ck_assert_uint_eq(strspn(strstr(line, "v=") + 2, "x"), 1024);
}
END_TEST

/* Pairs beyond the length of a line are left out whole; what fits again behind them is there. */
START_TEST(a_long_line_stays_readable)
{
	char v[1001];

	memset(v, 'x', sizeof v - 1);
	v[sizeof v - 1] = '\0';
	for (int form = LOG_LOGFMT; form <= LOG_JSON; form++) {
		log_open("adwumad", LOG_INFO, (enum log_format)form);
		for (size_t cut = 0; cut < sizeof v; cut++) {
			size_t n;

			log_event(LOG_INFO, "e", "a", v, "b", v, "c", v, "d", v + cut, "e", v, "f", "1", NULL);
			n = next_line();
			ck_assert_int_le((int)n, LOG_LINE_MAX - 1);
			if (form == LOG_JSON)
				ck_assert_int_eq(json_scan(line, n, NULL, NULL, NULL), JSON_OK);
			else
				ck_assert(line[n - 1] == '1' || line[n - 1] == 'x');
			if (cut == 0)
				ck_assert_ptr_nonnull(strstr(line, form == LOG_JSON ? "\"f\":\"1\"" : " f=1"));
		}
	}
}
END_TEST

START_TEST(numbers_of_one_statement_do_not_overwrite_each_other)
{
	log_event(LOG_INFO, "e", "a", log_int(0), "b", log_int(-1), "c", log_int(22), "d", log_int(9223372036854775807),
		  "e", log_int(-9223372036854775807 - 1), "f", log_int(5), "g", log_int(6), "h", log_int(7), NULL);
	ck_assert_ptr_nonnull(
		strstr(behind_stamp(), "a=0 b=-1 c=22 d=9223372036854775807 e=-9223372036854775808 f=5 g=6 h=7"));
}
END_TEST

static void *write_lines(void *arg)
{
	const char *name = arg;

	for (int i = 0; i < LINES_EACH; i++)
		log_event(LOG_INFO, "from a thread", "name", name, "n", log_int(i), NULL);
	return NULL;
}

START_TEST(lines_of_threads_do_not_mix)
{
	static char names[THREADS][2] = {"0", "1", "2", "3"};
	pthread_t threads[THREADS];
	int seen[THREADS] = {0};

	for (int i = 0; i < THREADS; i++)
		ck_assert_int_eq(pthread_create(&threads[i], NULL, write_lines, names[i]), 0);
	for (int i = 0; i < THREADS * LINES_EACH; i++) {
		ssize_t n = recv(ends[0], line, sizeof line - 1, 0);
		int name, number;

		ck_assert_int_gt(n, 28);
		line[n] = '\0';
		ck_assert_int_eq(sscanf(line + 28, "level=info program=adwumad event=\"from a thread\" name=%d n=%d\n",
					&name, &number),
				 2);
		ck_assert(name >= 0 && name < THREADS);
		ck_assert_int_eq(number, seen[name]++);
	}
	for (int i = 0; i < THREADS; i++)
		pthread_join(threads[i], NULL);
	nothing_written();
}
END_TEST

int main(void)
{
	Suite *s = suite_create("log");
	TCase *t = tcase_create("all");
	SRunner *r;
	int failed;

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, a_line_of_logfmt);
	tcase_add_test(t, the_time_is_now_in_utc);
	tcase_add_test(t, quotes_only_where_needed);
	tcase_add_test(t, no_byte_breaks_a_line);
	tcase_add_test(t, lower_levels_are_not_written);
	tcase_add_test(t, a_line_of_json_has_the_same_fields);
	tcase_add_test(t, a_long_value_is_cut);
	tcase_add_test(t, a_long_line_stays_readable);
	tcase_add_test(t, numbers_of_one_statement_do_not_overwrite_each_other);
	tcase_add_test(t, lines_of_threads_do_not_mix);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
