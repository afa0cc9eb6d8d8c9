/* SPDX-License-Identifier: MIT
 *
 * UTF-8: every code point, every sequence of up to three bytes, and the Unicode standard's own examples of broken text. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

#define R UTF8_REPLACEMENT
#define ROUNDS 50000

static struct buf b;

static void setup(void)
{
	b = BUF_INIT(1 << 16);
	srand(1);
}

static void teardown(void)
{
	buf_release(&b);
}

/* Plainly by the definition; knows nothing of what may not be encoded. */
static size_t encode(char s[4], unsigned long c)
{
	size_t n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
	static const unsigned char lead[] = {0, 0, 0xc0, 0xe0, 0xf0};

	for (size_t i = n; --i > 0; c >>= 6)
		s[i] = (char)(0x80 | (c & 63));
	s[0] = (char)(lead[n] | c);
	return n;
}

START_TEST(every_code_point_is_one_step)
{
	for (unsigned long c = 0; c <= 0x13ffff; c++) {
		char s[4];
		size_t n = encode(s, c), want = (c >= 0xd800 && c <= 0xdfff) || c > 0x10ffff ? 0 : n;

		/* Check writes a mark for each assertion: too slow for millions. */
		if (utf8_step(s, n) != want)
			ck_abort_msg("U+%04lX", c);
		for (size_t cut = 0; cut < n; cut++)
			if (utf8_step(s, cut) != 0)
				ck_abort_msg("U+%04lX cut to %zu", c, cut);
	}
}
END_TEST

/* As many sequences are valid as there are code points of that length, so none is let pass beside those of the test above. */
START_TEST(nothing_else_is_a_step)
{
	static const char tails[] = {'\0', '\x7f', '\x80', '\xbf', '\xc0', '\xff'};
	size_t count[5] = {0};
	char s[4];

	for (unsigned long i = 0; i < 0x1000000; i++) {
		s[0] = (char)(i >> 16);
		s[1] = (char)(i >> 8);
		s[2] = (char)i;
		count[utf8_step(s, 3)]++;
	}
	ck_assert_uint_eq(count[1], 128UL * 65536);
	ck_assert_uint_eq(count[2], 1920UL * 256);
	ck_assert_uint_eq(count[3], 61440);
	count[4] = 0;
	for (unsigned long i = 0; i < 0x10000 * 36; i++) {
		s[0] = (char)(i / 36 >> 8);
		s[1] = (char)(i / 36);
		s[2] = tails[i / 6 % 6];
		s[3] = tails[i % 6];
		count[4] += utf8_step(s, 4) == 4;
	}
	ck_assert_uint_eq(count[4],
			  256 * 4); /* pairs of first bytes that may begin a sequence, by two good tails each */
}
END_TEST

static const struct {
	const char *bad, *repaired;
} rows[] = {
	{"", ""},
	{"plain", "plain"},
	{"a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80z", "a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80z"},
	{"\xef\xbf\xbd", R},
	/* The Unicode standard, chapter 3, tables on the practices of substitution. */
	{"a\xf1\x80\x80\xe1\x80\xc2\x62\x80\x63\x80\xbf\x64", "a" R R R "b" R "c" R R "d"},
	{"\xc0\xaf\xe0\x80\xbf\xf0\x81\x82\x41", R R R R R R R R "A"},
	{"\xed\xa0\x80\xed\xbf\xbf\xed\xaf\x41", R R R R R R R R "A"},
	{"\xf4\x91\x92\x93\xff\x41\x80\xbf\x42", R R R R R "A" R R "B"},
	{"\xe1\x80\xe2\xf0\x91\x92\xf1\xbf\x41", R R R R "A"},
	/* Broken off at the end. */
	{"a\xc3", "a" R},
	{"a\xe2\x82", "a" R},
	{"a\xf0\x9f\x98", "a" R},
	{"a\xf0\x9f", "a" R},
	{"\xfe\xff", R R},
};

START_TEST(bad_parts_become_one_replacement)
{
	size_t n = strlen(rows[_i].bad);
	char *exact = malloc(n ? n : 1);

	memcpy(exact, rows[_i].bad, n);
	utf8_repair(&b, exact, n);
	ck_assert_str_eq(buf_cstr(&b), rows[_i].repaired);
	ck_assert_int_eq(utf8_valid(exact, n), strcmp(rows[_i].bad, rows[_i].repaired) == 0);
	ck_assert_uint_eq(utf8_count(exact, n), utf8_count(b.ptr ? b.ptr : "", b.len));
	free(exact);
}
END_TEST

START_TEST(code_points_are_counted)
{
	ck_assert_uint_eq(utf8_count("", 0), 0);
	ck_assert_uint_eq(utf8_count("a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80z", 11), 5);
	ck_assert_uint_eq(utf8_count("a\0b", 3), 3);
	ck_assert_uint_eq(utf8_count("a\xe2\x82\xff", 4), 3);
}
END_TEST

static char *random_bytes(size_t *n)
{
	static const char alphabet[] = "a \n\x80\x90\xa0\xbf\xc2\xe0\xe2\xed\xef\xf0\xf1\xf4\xff";
	char *exact;

	*n = (size_t)rand() % 12;
	exact = malloc(*n ? *n : 1);
	for (size_t i = 0; i < *n; i++)
		exact[i] = alphabet[(size_t)rand() % (sizeof alphabet - 1)];
	return exact;
}

START_TEST(repaired_text_is_valid)
{
	for (int round = 0; round < ROUNDS; round++) {
		size_t n;
		char *s = random_bytes(&n);

		buf_clear(&b);
		utf8_repair(&b, s, n);
		ck_assert(utf8_valid(buf_cstr(&b), b.len) && b.len <= 3 * n);
		ck_assert(!utf8_valid(s, n) || (b.len == n && memcmp(buf_cstr(&b), s, n) == 0));
		free(s);
	}
}
END_TEST

START_TEST(a_cut_splits_no_sequence)
{
	const char *s = "a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80z";
	static const size_t want[] = {0, 1, 1, 3, 3, 3, 6, 6, 6, 6, 10, 11, 11, 11};

	for (size_t max = 0; max < sizeof want / sizeof *want; max++)
		ck_assert_uint_eq(utf8_cut(s, 11, max), want[max]);
	ck_assert_uint_eq(utf8_cut("", 0, 0), 0);
}
END_TEST

/* Bytes that are no text at all must not cost more than a few of them. */
START_TEST(a_cut_of_stray_bytes_is_where_it_was_asked)
{
	static const char *const stray[] = {"\x80\x80\x80\x80\x80\x80\x80\x80", "\xff\xff\xff\xff\xff\xff\xff\xff",
					    "\xe2\xe2\xe2\xe2\xe2\xe2\xe2\xe2", "abcd\x80\x80\x80\x80"};

	for (size_t i = 0; i < sizeof stray / sizeof *stray; i++)
		for (size_t max = 0; max <= 9; max++)
			ck_assert_uint_eq(utf8_cut(stray[i], 8, max), max < 8 ? max : 8);
	ck_assert_uint_eq(utf8_cut("a\xf0\x9f\x98", 4, 3), 3); /* already broken: nothing to split */
}
END_TEST

START_TEST(cuts_of_anything_stay_within)
{
	for (int round = 0; round < ROUNDS; round++) {
		size_t n, max = (size_t)rand() % 14, cut;
		char *s = random_bytes(&n);

		cut = utf8_cut(s, n, max);
		ck_assert(cut <= max && cut <= n && cut + 3 >= (n < max ? n : max));
		ck_assert(!utf8_valid(s, n) || utf8_valid(s, cut));
		free(s);
	}
}
END_TEST

static const struct {
	const char *text;
	size_t points;
	const char *want;
} snippets[] = {
	{"", 200, ""},
	{" \t\r\n\v\f ", 200, ""},
	{"  a  ", 200, "a"},
	{"a \n\t b", 200, "a b"},
	{"<html>\n  <b>x</b>\n</html>\n", 200, "<html> <b>x</b> </html>"},
	{"abcdef", 3, "abc"},
	{"abc", 3, "abc"},
	{"abc", 0, ""},
	{"\xc9\x9b\xc9\x94\xe2\x82\xac\xf0\x9f\x98\x80x", 4, "\xc9\x9b\xc9\x94\xe2\x82\xac\xf0\x9f\x98\x80"},
	{"a\xff\xe2\x82z", 200, "a" R R "z"},
	{"\xe2\x82z", 1, R},
	{"\x80 \x80", 200, R " " R},
};

START_TEST(snippets_are_one_short_line)
{
	size_t n = strlen(snippets[_i].text);
	char *exact = malloc(n ? n : 1);

	memcpy(exact, snippets[_i].text, n);
	buf_str_add(&b, "> ");
	utf8_snippet(&b, exact, n, snippets[_i].points);
	ck_assert_str_eq(b.ptr + 2, snippets[_i].want);
	free(exact);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("utf8");
	TCase *t = tcase_create("all");
	SRunner *r;
	int failed;

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 60); /* the exhaustive ones under a sanitizer on a busy machine */
	tcase_add_test(t, every_code_point_is_one_step);
	tcase_add_test(t, nothing_else_is_a_step);
	tcase_add_loop_test(t, bad_parts_become_one_replacement, 0, sizeof rows / sizeof *rows);
	tcase_add_test(t, code_points_are_counted);
	tcase_add_test(t, repaired_text_is_valid);
	tcase_add_test(t, a_cut_splits_no_sequence);
	tcase_add_test(t, a_cut_of_stray_bytes_is_where_it_was_asked);
	tcase_add_test(t, cuts_of_anything_stay_within);
	tcase_add_loop_test(t, snippets_are_one_short_line, 0, sizeof snippets / sizeof *snippets);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
