/* SPDX-License-Identifier: MIT
 *
 * The growing buffer and the JSON it writes. Random parts begin with a fixed seed, so a failure comes back. */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/json.h"
#include "base/utf8.h"

#define ROUNDS 20000

static struct buf b;

static void setup(void)
{
	b = BUF_INIT(1 << 20);
	srand(1);
}

static void teardown(void)
{
	buf_release(&b);
}

START_TEST(holds_exactly_its_bound)
{
	for (size_t max = 0; max < 600; max++) {
		struct buf small = BUF_INIT(max);

		for (size_t i = 0; i < max; i++) {
			buf_char(&small, 'x');
			ck_assert(!small.failed && small.len == i + 1 && small.ptr[small.len] == '\0');
		}
		buf_char(&small, 'x');
		ck_assert(small.failed && small.len == max);
		buf_release(&small);
	}
}
END_TEST

START_TEST(grows_over_many_sizes)
{
	struct buf whole = BUF_INIT(1 << 20);
	char part[3000];

	for (size_t n = 0; n < sizeof part; n += 7) {
		memset(part, 'a' + (int)(n % 26), n);
		buf_add(&whole, part, n);
		ck_assert(!whole.failed && whole.ptr[whole.len] == '\0');
		ck_assert(n == 0 || memcmp(whole.ptr + whole.len - n, part, n) == 0);
	}
	buf_release(&whole);
}
END_TEST

START_TEST(failure_is_sticky_until_cleared)
{
	struct buf small = BUF_INIT(4);

	buf_str_add(&small, "ab");
	buf_str_add(&small, "xyz");
	ck_assert(small.failed);
	buf_char(&small, 'c');
	buf_int(&small, 1);
	buf_printf(&small, "%d", 1);
	ck_assert_ptr_null(buf_reserve(&small, 0));
	ck_assert_str_eq(buf_cstr(&small), "ab");
	buf_clear(&small);
	ck_assert(!small.failed && small.len == 0);
	buf_str_add(&small, "abcd");
	ck_assert(!small.failed);
	ck_assert_str_eq(buf_cstr(&small), "abcd");
	buf_release(&small);
}
END_TEST

START_TEST(sizes_that_would_wrap_are_refused)
{
	buf_str_add(&b, "abc");
	ck_assert_ptr_null(buf_reserve(&b, SIZE_MAX));
	ck_assert(b.failed);
	buf_clear(&b);
	buf_str_add(&b, "abc");
	ck_assert_ptr_null(buf_reserve(&b, SIZE_MAX - 3));
	ck_assert(b.failed && b.len == 3);
}
END_TEST

START_TEST(reserve_gives_room_for_a_nul_too)
{
	for (size_t n = 0; n < 2000; n++) {
		struct buf fresh = BUF_INIT(n);
		char *to = buf_reserve(&fresh, n);

		ck_assert_ptr_nonnull(to);
		memset(to, 'x', n);
		to[n] = '\0'; /* the address sanitizer looks on */
		ck_assert_uint_eq(fresh.len, 0);
		buf_release(&fresh);
	}
}
END_TEST

START_TEST(release_and_clear_keep_the_bound)
{
	struct buf small = BUF_INIT(3);

	buf_str_add(&small, "abc");
	buf_release(&small);
	ck_assert(!small.ptr && small.len == 0 && small.cap == 0 && small.max == 3);
	ck_assert_str_eq(buf_cstr(&small), "");
	buf_clear(&small);
	buf_str_add(&small, "abcd");
	ck_assert(small.failed);
	buf_release(&small);
}
END_TEST

START_TEST(trim_gives_back_only_what_is_large)
{
	char *kept;

	buf_str_add(&b, "small");
	kept = b.ptr;
	buf_trim(&b, 4096);
	ck_assert(b.ptr == kept && b.len == 0);
	ck_assert_str_eq(buf_cstr(&b), "");
	buf_reserve(&b, 5000);
	buf_trim(&b, 4096);
	ck_assert(!b.ptr && b.cap == 0 && b.max == 1 << 20);
}
END_TEST

START_TEST(steal_hands_the_memory_over)
{
	char *mine;

	buf_str_add(&b, "abc");
	mine = buf_steal(&b);
	ck_assert_str_eq(mine, "abc");
	ck_assert(!b.ptr && b.len == 0 && b.max == 1 << 20);
	buf_str_add(&b, "other");
	ck_assert_str_eq(mine, "abc");
	free(mine);
	buf_release(&b);
	ck_assert_ptr_null(buf_steal(&b));
}
END_TEST

START_TEST(cut_takes_back_the_end)
{
	struct buf small = BUF_INIT(5);

	buf_cut(&small, 0);
	buf_str_add(&small, "abcde");
	buf_cut(&small, 9);
	ck_assert_str_eq(small.ptr, "abcde");
	buf_char(&small, 'f');
	buf_cut(&small, 2);
	ck_assert_str_eq(small.ptr, "ab");
	ck_assert(small.failed && small.len == 2);
	buf_release(&small);
}
END_TEST

START_TEST(integers_are_those_of_printf)
{
	char want[32];
	int64_t ten = 1;

	for (int i = 0; i < 19; i++, ten = i < 19 ? ten * 10 : ten) {
		for (int64_t near = -1; near <= 1; near++)
			for (int sign = -1; sign <= 1; sign += 2) {
				buf_clear(&b);
				buf_int(&b, sign * (ten + near));
				snprintf(want, sizeof want, "%lld", (long long)(sign * (ten + near)));
				ck_assert_str_eq(b.ptr, want);
			}
	}
	buf_clear(&b);
	buf_int(&b, INT64_MIN);
	buf_char(&b, ' ');
	buf_int(&b, INT64_MAX);
	ck_assert_str_eq(b.ptr, "-9223372036854775808 9223372036854775807");
}
END_TEST

START_TEST(printf_appends_whole_or_not_at_all)
{
	struct buf small = BUF_INIT(8);
	char long_text[2000];

	memset(long_text, 'y', sizeof long_text - 1);
	long_text[sizeof long_text - 1] = '\0';
	buf_printf(&b, "%s", "");
	buf_printf(&b, "%d-", 1);
	buf_printf(&b, "%s", long_text);
	ck_assert(b.len == 2001 && memcmp(b.ptr, "1-yyy", 5) == 0 && b.ptr[2001] == '\0');
	buf_printf(&small, "%s", "12345678");
	ck_assert(!small.failed);
	buf_printf(&small, "%c", 'x');
	ck_assert(small.failed);
	ck_assert_str_eq(small.ptr, "12345678");
	buf_release(&small);
}
END_TEST

START_TEST(each_byte_is_escaped_as_it_must)
{
	for (int c = 0; c < 256; c++) {
		static const char *const named[256] = {
			['"'] = "\\\"", ['\\'] = "\\\\", ['\n'] = "\\n", ['\r'] = "\\r", ['\t'] = "\\t"};
		char s[3] = {'a', (char)c, 'z'}, want[16];

		if (named[c])
			snprintf(want, sizeof want, "\"a%sz\"", named[c]);
		else if (c < 0x20 || c == 0x7f)
			snprintf(want, sizeof want, "\"a\\u%04xz\"", (unsigned)c);
		else if (c < 0x80)
			snprintf(want, sizeof want, "\"a%cz\"", c);
		else
			snprintf(want, sizeof want, "\"a" UTF8_REPLACEMENT "z\"");
		buf_clear(&b);
		buf_json_string(&b, s, sizeof s);
		ck_assert_str_eq(b.ptr, want);
	}
	buf_clear(&b);
	buf_json_string(&b, "", 0);
	buf_json_cstr(&b, NULL);
	buf_json_cstr(&b, "\xc9\x9b");
	ck_assert_str_eq(b.ptr, "\"\"null\"\xc9\x9b\"");
}
END_TEST

/* What is written is strict JSON and reads back as the repaired input: two other modules are the judges. */
START_TEST(any_bytes_come_back)
{
	static const char alphabet[] =
		"ab\"\\/\n\x01\x7f\x80\xbf\xc2\xc3\xa9\xe2\x82\xac\xed\xa0\xf0\x9f\x98\x80\xf4\xff\0";
	struct buf back = BUF_INIT(1 << 10), repaired = BUF_INIT(1 << 10);

	for (int round = 0; round < ROUNDS; round++) {
		size_t n = (size_t)rand() % 24;
		char *exact = malloc(n ? n : 1);

		for (size_t i = 0; i < n; i++)
			exact[i] = alphabet[(size_t)rand() % sizeof alphabet];
		buf_clear(&b);
		buf_clear(&back);
		buf_clear(&repaired);
		buf_json_string(&b, exact, n);
		utf8_repair(&repaired, exact, n);
		ck_assert_int_eq(json_scan(b.ptr, b.len, NULL, NULL, NULL), JSON_OK);
		ck_assert(json_span_string((struct span){b.ptr, b.len}, &back));
		ck_assert_uint_eq(back.len, repaired.len);
		ck_assert(memcmp(buf_cstr(&back), buf_cstr(&repaired), back.len) == 0);
		free(exact);
	}
	buf_release(&back);
	buf_release(&repaired);
}
END_TEST

START_TEST(a_string_without_room_for_its_quote_fails)
{
	struct buf small = BUF_INIT(5);

	buf_json_cstr(&small, "abc");
	ck_assert(!small.failed);
	buf_clear(&small);
	buf_json_cstr(&small, "abcd");
	ck_assert(small.failed);
	buf_release(&small);
}
END_TEST

static const struct {
	double d;
	int decimals;
	const char *want;
} doubles[] = {
	{0, 3, "0"},
	{-0.0, 3, "0"},
	{1, 3, "1"},
	{10, 0, "10"},
	{100, 2, "100"},
	{1.5, 3, "1.5"},
	{1.25, 1, "1.3"},
	{-2.5, 3, "-2.5"},
	{0.001, 3, "0.001"},
	{0.0004, 3, "0"},
	{-0.0004, 3, "0"},
	{0.0005, 3, "0.001"},
	{0.9996, 3, "1"},
	{1.010, 3, "1.01"},
	{-0.125, 6, "-0.125"},
	{0.1 + 0.2, 15, "0.3"},
	{123456.789012, 6, "123456.789012"},
	{899999999999.5, 6, "899999999999.5"},
	{1e12, 6, "1000000000000"},
	{-1e21, 3, "-1000000000000000000000"},
	{1.7976931348623157e308, 0, NULL}, /* only its form is looked at */
	{INFINITY, 3, "null"},
	{-INFINITY, 3, "null"},
	{NAN, 3, "null"},
};

START_TEST(doubles_are_fixed_and_short)
{
	buf_json_double(&b, doubles[_i].d, doubles[_i].decimals);
	if (doubles[_i].want)
		ck_assert_str_eq(b.ptr, doubles[_i].want);
	else
		ck_assert(strtod(b.ptr, NULL) == doubles[_i].d && !strpbrk(b.ptr, ".eE"));
}
END_TEST

START_TEST(doubles_read_back)
{
	for (int round = 0; round < ROUNDS; round++) {
		int decimals = rand() % 7;
		double d = ((double)rand() - RAND_MAX / 2.0) / (double)(1 + rand() % 1000000), off;

		buf_clear(&b);
		buf_json_double(&b, d, decimals);
		ck_assert_int_eq(json_scan(b.ptr, b.len, NULL, NULL, NULL), JSON_OK);
		off = fabs(strtod(b.ptr, NULL) - d);
		ck_assert_msg(off <= 0.5000001 * pow(10, -decimals) + fabs(d) * 1e-15, "%.17g with %d decimals is %s",
			      d, decimals, b.ptr);
		ck_assert(!strchr(b.ptr, '.') || (b.ptr[b.len - 1] != '0' && b.ptr[b.len - 1] != '.'));
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("buf");
	TCase *t = tcase_create("all");
	SRunner *r;
	int failed;

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, holds_exactly_its_bound);
	tcase_add_test(t, grows_over_many_sizes);
	tcase_add_test(t, failure_is_sticky_until_cleared);
	tcase_add_test(t, sizes_that_would_wrap_are_refused);
	tcase_add_test(t, reserve_gives_room_for_a_nul_too);
	tcase_add_test(t, release_and_clear_keep_the_bound);
	tcase_add_test(t, trim_gives_back_only_what_is_large);
	tcase_add_test(t, steal_hands_the_memory_over);
	tcase_add_test(t, cut_takes_back_the_end);
	tcase_add_test(t, integers_are_those_of_printf);
	tcase_add_test(t, printf_appends_whole_or_not_at_all);
	tcase_add_test(t, each_byte_is_escaped_as_it_must);
	tcase_add_test(t, any_bytes_come_back);
	tcase_add_test(t, a_string_without_room_for_its_quote_fails);
	tcase_add_loop_test(t, doubles_are_fixed_and_short, 0, sizeof doubles / sizeof *doubles);
	tcase_add_test(t, doubles_read_back);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
