/* SPDX-License-Identifier: MIT
 *
 * The flat scan and the tree. Texts are copied to memory of exactly their size, so that a sanitizer sees any read beyond the end. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"

struct seen {
	char text[1024];
};

static void note(void *ctx, struct span key, struct span value)
{
	struct seen *s = ctx;
	size_t n = strlen(s->text);

	snprintf(s->text + n, sizeof s->text - n, "%.*s=%.*s;", (int)key.len, key.ptr, (int)value.len, value.ptr);
}

static enum json_verdict scan(const char *text, size_t len, struct seen *seen)
{
	char *exact = malloc(len ? len : 1);
	enum json_verdict v;

	memcpy(exact, text, len);
	v = json_scan(exact, len, NULL, seen ? note : NULL, seen);
	free(exact);
	return v;
}

static const char *const good[] = {
	"{}",
	"[]",
	"null",
	"true",
	"false",
	"0",
	"-0",
	"1.5e+10",
	"1E5",
	"\"\"",
	" { } ",
	"[1,2,[3]]",
	"{\"a\":{\"b\":[]}}",
	"\"\\u00e9\\n\\/\\\"\"",
	"[[],{},\"\"]",
	"\"\xc3\xa9\"",
	"{\"a\":1,\"a\":2}",
	"\t\r\n1",
	"\"\\ud800\"",
	"[[[[]]]]",
	"\"\x7f\"",
	"-12.25",
};

static const char *const broken[] = {
	"",
	" ",
	"{",
	"}",
	"[",
	"]",
	"{]",
	"[}",
	"{\"a\"}",
	"{\"a\":}",
	"{\"a\":1,}",
	"[1,]",
	"[,1]",
	"[1 2]",
	"{a:1}",
	"{\"a\" 1}",
	"01",
	"+1",
	"1.",
	".5",
	"1e",
	"--1",
	"- 1",
	"nul",
	"truex",
	"\"",
	"\"\n\"",
	"\"\\x\"",
	"\"\\u12\"",
	"\"\\u12g4\"",
	"{} {}",
	"1 2",
	"[1]]",
	"'a'",
	"\xef\xbb\xbf{}",
	"{\"a\":1 \"b\":2}",
	"{,}",
	"[,]",
	"\"\t\"",
	"NaN",
	"{1:2}",
	"\xff",
	"[\"a\",",
};

START_TEST(takes_what_is_json)
{
	ck_assert_msg(scan(good[_i], strlen(good[_i]), NULL) == JSON_OK, "%s", good[_i]);
}
END_TEST

START_TEST(refuses_what_is_not)
{
	ck_assert_msg(scan(broken[_i], strlen(broken[_i]), NULL) == JSON_BROKEN, "%s", broken[_i]);
}
END_TEST

START_TEST(cut_texts_are_broken)
{
	const char *whole = "{\"a\":[1,{\"b\":\"\\u00e9 \xc3\xa9\"},true,null,-1.5e3],\"c\":\"d\"}";

	for (size_t n = 0; n < strlen(whole); n++)
		ck_assert_int_ne(scan(whole, n, NULL), JSON_OK);
}
END_TEST

START_TEST(tells_members_as_they_stand)
{
	struct seen s = {""};
	const char *text = " {\"a\" : 1 , \"b\":{\"x\":[1, 2]},\"c\":\"}\\\"\" ,\"d\":[{}], \"e\":null} ";

	ck_assert_int_eq(scan(text, strlen(text), &s), JSON_OK);
	ck_assert_str_eq(s.text, "a=1;b={\"x\":[1, 2]};c=\"}\\\"\";d=[{}];e=null;");
}
END_TEST

static enum json_verdict nested(size_t levels, const char *inside)
{
	struct buf b = BUF_INIT(1 << 22);
	enum json_verdict v;

	for (size_t i = 0; i < levels; i++)
		buf_char(&b, '[');
	buf_str_add(&b, inside);
	for (size_t i = 0; i < levels; i++)
		buf_char(&b, ']');
	v = scan(b.ptr, b.len, NULL);
	buf_release(&b);
	return v;
}

START_TEST(depth_is_bounded)
{
	ck_assert_int_eq(nested(JSON_DEPTH_MAX, ""), JSON_OK);
	ck_assert_int_eq(nested(JSON_DEPTH_MAX + 1, ""), JSON_TOO_DEEP);
	ck_assert_int_eq(nested(100000, "\"]]]\""), JSON_TOO_DEEP);
	ck_assert_int_eq(nested(100000, "\""), JSON_BROKEN);
	ck_assert_int_eq(nested(JSON_DEPTH_MAX - 1, "[],[]"), JSON_OK);
	ck_assert_ptr_null(json_parse("[[", 2));
}
END_TEST

START_TEST(utf8_is_checked)
{
	static const char *const bad[] = {"\"\xff\"", "\"\xc3\"", "\"\xc0\x80\"", "\"\xed\xa0\x80\"", "\"\xf4\x90\x80\x80\"", "{\"\xff\":1}"};

	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		ck_assert_int_eq(scan(bad[i], strlen(bad[i]), NULL), JSON_NOT_UTF8);
}
END_TEST

static struct span span(const char *s)
{
	return (struct span){s, strlen(s)};
}

START_TEST(reads_scalars)
{
	struct buf b = BUF_INIT(100);
	int64_t n = 0;

	ck_assert(json_span_int(span("9007199254740993"), &n) && n == 9007199254740993);
	ck_assert(json_span_int(span("1e3"), &n) && n == 1000);
	ck_assert(json_span_int(span("-5.0"), &n) && n == -5);
	ck_assert(!json_span_int(span("1.5"), &n) && !json_span_int(span("\"1\""), &n) && !json_span_int(span("99999999999999999999"), &n));
	ck_assert(json_span_string(span("\"a\\n\\u00e9\\ud83d\\ude00\\/\""), &b));
	ck_assert_str_eq(b.ptr, "a\n\xc3\xa9\xf0\x9f\x98\x80/");
	ck_assert(!json_span_string(span("\"\\ud800x\""), &b) && !json_span_string(span("\"\\udc00\""), &b));
	ck_assert(json_span_has_nul(span("\"a\\u0000\"")) && !json_span_has_nul(span("\"a\\\\u0000\"")));
	ck_assert(json_key_is(span("\\u0069d"), "id") && !json_key_is(span("Id"), "id"));
	buf_release(&b);
}
END_TEST

START_TEST(tree_softens_what_cjson_cannot_hold)
{
	const char *text = "\xef\xbb\xbf{\"a\":\"x\\u0000y\",\"b\":\"\\ud800\",\"c\":\"\\\\u0000\",\"d\":\"\xff\",\"e\":\"\\ud83d\\ude00\"}";
	struct json *j = json_parse(text, strlen(text));

	ck_assert_ptr_nonnull(j);
	ck_assert_str_eq(json_text(json_get(j, "a")), "x\xef\xbf\xbdy");
	ck_assert_str_eq(json_text(json_get(j, "b")), "\xef\xbf\xbd");
	ck_assert_str_eq(json_text(json_get(j, "c")), "\\u0000");
	ck_assert_str_eq(json_text(json_get(j, "d")), "\xef\xbf\xbd");
	ck_assert_str_eq(json_text(json_get(j, "e")), "\xf0\x9f\x98\x80");
	ck_assert_ptr_null(json_get(j, "A"));
	ck_assert_uint_eq(json_count(j), 5);
	json_free(j);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("json");
	TCase *t = tcase_create("all");
	SRunner *r;
	int failed;

	tcase_add_loop_test(t, takes_what_is_json, 0, sizeof good / sizeof *good);
	tcase_add_loop_test(t, refuses_what_is_not, 0, sizeof broken / sizeof *broken);
	tcase_add_test(t, cut_texts_are_broken);
	tcase_add_test(t, tells_members_as_they_stand);
	tcase_add_test(t, depth_is_bounded);
	tcase_add_test(t, utf8_is_checked);
	tcase_add_test(t, reads_scalars);
	tcase_add_test(t, tree_softens_what_cjson_cannot_hold);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
