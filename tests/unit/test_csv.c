/* SPDX-License-Identifier: MIT
 *
 * Tables: every kind of cell and line break, the same records wherever the bytes are cut, and what is written is read again. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "text/csv.h"

#define MAX 1000

/* The values of a record's cells between bars, what it was in brackets behind it where it is special, and a semicolon. */
static void note(const struct csv *c, struct buf *seen)
{
	struct span record = csv_record(c), cell;
	size_t at = 0;

	while (!c->too_long && csv_next(record, c->delimiter, &at, &cell)) {
		csv_value(cell, seen);
		buf_char(seen, '|');
	}
	buf_printf(seen, "%s%s%zu;", c->too_long ? "[long]" : "", c->open ? "[open]" : "", csv_line_break(record).len);
}

static const struct {
	const char *table, *records;
} rows[] = {
	{"", ""},
	{"a,b\n", "a|b|1;"},
	{"a,b\r\nc,d\r\n", "a|b|2;c|d|2;"},
	{"a,b\nc,d", "a|b|1;c|d|0;"},
	{"a\n\n\r\nb\n", "a|1;|1;|2;b|1;"},
	{",\n,,", "||1;|||0;"},
	{"a\rb,c\r\n", "a\rb|c|2;"},
	{"a\r", "a\r|0;"},
	{"\"a\",\"b\"\r\n", "a|b|2;"},
	{"\"a,b\",c\n", "a,b|c|1;"},
	{"\"a\nb\",\"c\r\nd\"\ne\n", "a\nb|c\r\nd|1;e|1;"},
	{"\"a\"\"b\",\"\"\"\",\"\"\n", "a\"b|\"||1;"},
	{"\"\"\"\n\"\"\"\n", "\"\n\"|1;"},
	{"a\"b,c\"\n", "a\"b|c\"|1;"},
	{"\"a\"b\"c,d\n", "ab\"c|d|1;"},
	{"\"a\" ,b\n", "a |b|1;"},
	{" \"a\",b\n", " \"a\"|b|1;"},
	{"a,\"b\nc", "a|b\nc|[open]0;"},
	{"a\n\"b", "a|1;b|[open]0;"},
	{"\xef\xbb\xbf"
	 "a,b\n",
	 "a|b|1;"},
	{"\xef\xbb\xbf\"a,b\"\n\xef\xbb\xbf"
	 "c\n",
	 "a,b|1;\xef\xbb\xbf"
	 "c|1;"},
	{"\xef\xbb\xbf", ""},
	{"\xef\xbb\"a\n", "\xef\xbb\"a|1;"},
	{"\xef\n", "\xef|1;"},
	{"M\xc9\x94,\xf0\x9f\x98\x80\n", "M\xc9\x94|\xf0\x9f\x98\x80|1;"},
	{"\xff,\x80\n", "\xff|\x80|1;"},
};
#define ROWS ((int)(sizeof rows / sizeof *rows))

static void feed(struct csv *c, const char *bytes, size_t n, struct buf *seen)
{
	for (size_t at = 0; at < n;) {
		at += csv_feed(c, bytes + at, n - at);
		if (c->whole)
			note(c, seen);
	}
}

static void check(int row, size_t first, size_t step)
{
	const char *table = rows[row].table;
	size_t n = strlen(table), at = 0;
	struct buf seen = BUF_INIT(MAX);
	struct csv c;

	csv_init(&c, ',', MAX);
	for (size_t cut = first < n ? first : n; at < n; cut = cut + step < n ? cut + step : n) {
		/* A copy, so that a sanitizer sees a look beyond what has come. */
		char *part = malloc(cut - at + 1);

		memcpy(part, table + at, cut - at);
		feed(&c, part, cut - at, &seen);
		free(part);
		at = cut;
	}
	if (csv_end(&c))
		note(&c, &seen);
	ck_assert_msg(strcmp(buf_cstr(&seen), rows[row].records) == 0, "row %d, cut at %zu: %s", row, first,
		      buf_cstr(&seen));
	ck_assert_int_eq(csv_has_bom(&c), strncmp(table, "\xef\xbb\xbf", 3) == 0);
	buf_release(&seen);
	csv_release(&c);
}

START_TEST(records_are_the_same_wherever_they_are_cut)
{
	size_t n = strlen(rows[_i].table);

	for (size_t first = 1; first <= n + 1; first++) {
		check(_i, first, n + 1);
		check(_i, first, 1);
	}
}
END_TEST

START_TEST(a_long_record_is_dropped_and_the_next_is_there)
{
	struct buf seen = BUF_INIT(MAX);
	struct csv c;

	csv_init(&c, ';', 10);
	feed(&c, "a;b\n\"0123456789\n;;;;\"\nc;d\n", 26, &seen);
	feed(&c, "0123456789abcdef", 16, &seen);
	ck_assert(csv_end(&c));
	note(&c, &seen);
	ck_assert(!csv_end(&c));
	ck_assert_str_eq(buf_cstr(&seen), "a|b|1;[long]0;c|d|1;[long]0;");
	buf_release(&seen);
	csv_release(&c);
}
END_TEST

static const struct {
	const char *value, *cell;
} cells[] = {
	{"", ""},	    {"a", "a"},		  {"a b", "a b"},	{" a", "\" a\""},
	{"a\t", "\"a\t\""}, {"a,b", "\"a,b\""},	  {"a;b", "a;b"},	{"a\"b", "\"a\"\"b\""},
	{"\"", "\"\"\"\""}, {"a\nb", "\"a\nb\""}, {"a\rb", "\"a\rb\""}, {"\r\n", "\"\r\n\""},
};

START_TEST(what_is_written_is_read_again)
{
	struct buf out = BUF_INIT(MAX), value = BUF_INIT(MAX);

	csv_add(&out, ',', cells[_i].value, strlen(cells[_i].value));
	ck_assert_str_eq(buf_cstr(&out), cells[_i].cell);
	csv_value((struct span){buf_cstr(&out), out.len}, &value);
	ck_assert_str_eq(buf_cstr(&value), cells[_i].value);
	buf_release(&out);
	buf_release(&value);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("csv");
	TCase *tc = tcase_create("all");
	SRunner *runner;
	int failed;

	tcase_add_loop_test(tc, records_are_the_same_wherever_they_are_cut, 0, ROWS);
	tcase_add_test(tc, a_long_record_is_dropped_and_the_next_is_there);
	tcase_add_loop_test(tc, what_is_written_is_read_again, 0, (int)(sizeof cells / sizeof *cells));
	suite_add_tcase(suite, tc);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
