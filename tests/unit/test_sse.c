/* SPDX-License-Identifier: MIT
 *
 * Server-sent events: every kind of line, and the same events wherever the bytes are cut. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "text/sse.h"

#define MAX 1000

/* [name|data] of each event, one behind the other. */
static void note(void *ctx, struct span data, const char *name)
{
	struct buf *seen = ctx;

	buf_printf(seen, "[%s|", name);
	buf_add(seen, data.ptr, data.len);
	buf_char(seen, ']');
}

static const struct {
	const char *stream;
	const char *events; /* "!": it is refused */
} rows[] = {
	{"data: a\n\n", "[|a]"},
	{"data: a\r\n\r\n", "[|a]"},
	{"data: a\r\r", "[|a]"},
	{"data: a\n\ndata: b\n\n", "[|a][|b]"},
	{"data: a\r\n\r\ndata: b\r\n\r\n", "[|a][|b]"},
	{"data: a\r\rdata: b\r\r", "[|a][|b]"},
	{"data: a\r\n\ndata: b\r\r\n", "[|a][|b]"},
	{"\xef\xbb\xbf"
	 "data: a\n\n",
	 "[|a]"},
	{"\xef\xbb\xbf\n"
	 "data: a\n\n",
	 "[|a]"},
	{"data: a\n\n\xef\xbb\xbf"
	 "data: b\n\n",
	 "[|a]"},
	{"data:a\n\n", "[|a]"},
	{"data:  a\n\n", "[| a]"},
	{"data: a \n\n", "[|a ]"},
	{"data: a\ndata: b\n\n", "[|a\nb]"},
	{"data: a\ndata:\ndata: b\n\n", "[|a\n\nb]"},
	{"data: a:b: c\n\n", "[|a:b: c]"},
	{"data\n\n", ""},
	{"data:\n\n", ""},
	{"data\ndata\n\n", "[|\n]"},
	{": nothing\n\n", ""},
	{":\n\n:\n\n", ""},
	{": keep\ndata: a\n: alive\n\n", "[|a]"},
	{"event: x\ndata: a\n\ndata: b\n\n", "[x|a][|b]"},
	{"event: x\n\ndata: a\n\n", "[|a]"},
	{"event: x\nevent: y\ndata: a\n\n", "[y|a]"},
	{"id: 7\nretry: 10\ndata: a\n\n", "[|a]"},
	{"id: 7\n\n\n\n", ""},
	{"dat: a\ndatas: b\n data: c\n\n", ""},
	{"DATA: a\n\n", ""},
	{"data: a", "[|a]"},
	{"data: a\n", "[|a]"},
	{"data: a\ndata: b", "[|a\nb]"},
	{"data: a\xe2\x80\xa8"
	 "b\xc2\x85"
	 "c\n\n",
	 "[|a\xe2\x80\xa8"
	 "b\xc2\x85"
	 "c]"},
	{"data: \xc9\x9bna \xf0\x9f\x98\x80\n\n", "[|\xc9\x9bna \xf0\x9f\x98\x80]"},
	{"data: \xff\n\n", "[|\xff]"},
	{"", ""},
	{"\n\n\r\r\n", ""},
	{"data: [DONE]\n\n", "[|[DONE]]"},
};
#define ROWS ((int)(sizeof rows / sizeof *rows))

static void check(int row, size_t first, size_t step)
{
	struct buf seen = BUF_INIT(MAX);
	size_t n = strlen(rows[row].stream), at = 0;
	struct sse s;

	sse_init(&s, MAX);
	for (size_t cut = first < n ? first : n; at < n; cut = cut + step < n ? cut + step : n) {
		/* A copy, so that a sanitizer sees a look beyond what has come. */
		char *part = malloc(cut - at + 1);

		memcpy(part, rows[row].stream + at, cut - at);
		ck_assert_int_eq(sse_feed(&s, part, cut - at, note, &seen), 0);
		free(part);
		at = cut;
	}
	sse_end(&s, note, &seen);
	ck_assert_msg(strcmp(buf_cstr(&seen), rows[row].events) == 0, "row %d, cut at %zu: %s", row, first,
		      buf_cstr(&seen));
	buf_release(&seen);
	sse_release(&s);
}

START_TEST(events_are_the_same_wherever_they_are_cut)
{
	size_t n = strlen(rows[_i].stream);

	for (size_t first = 1; first <= n + 1; first++) {
		check(_i, first, n + 1);
		check(_i, first, 1);
	}
}
END_TEST

START_TEST(lines_and_events_are_bounded)
{
	struct buf seen = BUF_INIT(MAX);
	char line[MAX];
	struct sse s;

	memset(line, 'x', sizeof line);
	sse_init(&s, 100);
	ck_assert_int_eq(sse_feed(&s, "data: a\n\n", 9, note, &seen), 0);
	ck_assert_int_eq(sse_feed(&s, line, 200, note, &seen), -1);
	sse_restart(&s);
	for (int i = 0; i < 3; i++)
		ck_assert_int_eq(sse_feed(&s, "data: 1234567890123456789012345678\n", 35, note, &seen), 0);
	ck_assert_int_eq(sse_feed(&s, "data: 1234567890123456789012345678\n", 35, note, &seen), -1);
	sse_end(&s, note, &seen);
	sse_restart(&s);
	ck_assert_int_eq(sse_feed(&s, "data: b\n\n", 9, note, &seen), 0);
	ck_assert_str_eq(buf_cstr(&seen), "[|a][|b]");
	buf_release(&seen);
	sse_release(&s);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("sse");
	TCase *tc = tcase_create("all");
	SRunner *runner;
	int failed;

	tcase_add_loop_test(tc, events_are_the_same_wherever_they_are_cut, 0, ROWS);
	tcase_add_test(tc, lines_and_events_are_bounded);
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
