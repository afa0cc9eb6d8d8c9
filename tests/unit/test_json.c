/* SPDX-License-Identifier: MIT
 *
 * The flat scan and the tree. Texts are copied to memory of exactly their size, so that a sanitizer sees any read beyond the end. Random texts
 * begin with a fixed seed, so a failure comes back; a small recursive reader, written the other way round, and cJSON are their judges. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/utf8.h"

#define LARGE_BYTES (17UL * 1024 * 1024)
#define DEEP_LEVELS 100000
#define LONG_VALUE_BYTES 100
#define ROUNDS 2000
#define MUTATIONS 10

struct seen {
	char text[1024];
};

/* What is too long to be compared is a star. */
static void note(void *ctx, struct span key, struct span value)
{
	struct seen *s = ctx;
	size_t n = strlen(s->text);

	if (value.len > LONG_VALUE_BYTES)
		value = (struct span){"*", 1};
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

static enum json_verdict scan_str(const char *text, struct seen *seen)
{
	return scan(text, strlen(text), seen);
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
	"0e1",
	"0E-0",
	"-0.0e+00",
	"1e999999",
	"0.10",
	"[0,-0,0.0]",
	"123456789012345678901234567890123456789012345678901234567890123456789012345678901234567890",
	"\"\\b\\f\\n\\r\\t\\/\\\\\\\"\"",
	"\"\\u0000\"",
	"\"\\uABCD\\uabcd\"",
	"\"\\uDEAD\"",
	"\"\\ud83d\\ude00\"",
	"\"\\ude00\\ud83d\"",
	"\"\\\\u0000\"",
	"\"\\\\\"",
	"\"/\"",
	"\"\xf4\x8f\xbf\xbf\"",
	"\"\xef\xbb\xbf\"",
	"\"\xe2\x80\xa8\"",
	"{\"\":0}",
	"{\"\\u0000\":0}",
	"{\"a\":{},\"b\":[]}",
	"[ ]",
	"{ }",
	"[ [ ] , { } ]",
	"{\"a\" : 1\n,\t\"b\"\r: [ true , false , null ] }",
	"\"[{,:\"",
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
	"-",
	"-a",
	"-01",
	"00",
	"0x1",
	"1e+",
	"1e-",
	"1.e1",
	"1.2.3",
	"1e1.5",
	"1e1e1",
	"0e",
	"1,",
	"Infinity",
	"-Infinity",
	"tru",
	"True",
	"TRUE",
	"nulll",
	"fals",
	"t",
	"[true false]",
	"[1:2]",
	"[\"a\":1]",
	"{\"a\",1}",
	"{\"a\":1:2}",
	"{\"a\" \"b\"}",
	"{\"a\":1,,\"b\":2}",
	"{,\"a\":1}",
	"{\"a\":,\"b\":1}",
	"{null:1}",
	"{[]:1}",
	"{\"a\":",
	"{\"a\"",
	"{\"a\":1",
	"{\"a\":1,",
	"[1,,2]",
	"[[1]",
	"{\"a\":1}}",
	"{\"a\":[}",
	"[{\"a\":1]",
	"[1}",
	"{}}",
	"[]]",
	"{}[]",
	"[],",
	",",
	":",
	"\\",
	"\\n",
	"\"\\\"",
	"\"\\",
	"\"\\u\"",
	"\"\\u0\"",
	"\"\\u00\"",
	"\"\\u000\"",
	"\"\\u000",
	"\"\\u00g0\"",
	"\"\\U0041\"",
	"\"\\a\"",
	"\"\\'\"",
	"\"\\0\"",
	"\"\\\n\"",
	"\"\\\xc3\xa9\"",
	"\"\x1f\"",
	"\"\r\"",
	"\"a\"b\"",
	"[\"a\"\"b\"]",
	"// c\n1",
	"/**/1",
	"1 // c",
	"#",
	"[1\v]",
	"\f1",
	"\xc2\xa0",
	"\xe2\x81\xa0",
	"\xef\xbb\xbf",
	"1\xef\xbb\xbf",
	"[\xc3\xa9]",
	"[1\x80]",
	"{\"a\":\xff}",
	"\x1e{}",
};

START_TEST(takes_what_is_json)
{
	struct json *j;

	ck_assert_msg(scan_str(good[_i], NULL) == JSON_OK, "%s", good[_i]);
	j = strlen(good[_i]) < 64 ? json_parse(good[_i], strlen(good[_i]))
				  : NULL; /* a longer number is one that cJSON does not hold */
	ck_assert_msg(j || strlen(good[_i]) >= 64, "%s", good[_i]);
	json_free(j);
}
END_TEST

START_TEST(refuses_what_is_not)
{
	ck_assert_msg(scan_str(broken[_i], NULL) == JSON_BROKEN, "%s", broken[_i]);
}
END_TEST

START_TEST(a_nul_ends_nothing)
{
	ck_assert_int_eq(scan("1\0", 2, NULL), JSON_BROKEN);
	ck_assert_int_eq(scan("\"a\0b\"", 5, NULL), JSON_BROKEN);
	ck_assert_int_eq(scan("[1\0]", 4, NULL), JSON_BROKEN);
	ck_assert_int_eq(scan("\0", 1, NULL), JSON_BROKEN);
	ck_assert_int_eq(scan("\"\\\0\"", 4, NULL), JSON_BROKEN);
	ck_assert_int_eq(scan("{}\0", 3, NULL), JSON_BROKEN);
}
END_TEST

START_TEST(cut_texts_are_broken)
{
	const char *whole = "{\"a\":[1,{\"b\":\"\\u00e9 \xc3\xa9\"},true,null,-1.5e3],\"c\":\"d\"}";

	for (size_t n = 0; n < strlen(whole); n++)
		ck_assert_int_eq(scan(whole, n, NULL), JSON_BROKEN);
}
END_TEST

START_TEST(tells_members_as_they_stand)
{
	struct seen s = {""};

	ck_assert_int_eq(scan_str(" {\"a\" : 1 , \"b\":{\"x\":[1, 2]},\"c\":\"}\\\"\" ,\"d\":[{}], \"e\":null} ", &s),
			 JSON_OK);
	ck_assert_str_eq(s.text, "a=1;b={\"x\":[1, 2]};c=\"}\\\"\";d=[{}];e=null;");
	s = (struct seen){""};
	ck_assert_int_eq(
		scan_str("{\"\":{\"a\":1,\"b\":{\"c\":2}} , \"\\u0061\" :\"\" ,\"a\":[{\"d\":4}],\"a\":-0.5E1}", &s),
		JSON_OK);
	ck_assert_str_eq(s.text, "={\"a\":1,\"b\":{\"c\":2}};\\u0061=\"\";a=[{\"d\":4}];a=-0.5E1;");
}
END_TEST

START_TEST(tells_members_of_the_outermost_object_only)
{
	static const char *const none[] = {"[{\"a\":1}]", "[1,2]", "\"a\"", "{}", "[[],{\"a\":{\"b\":1}}]"};
	struct seen s = {""};

	for (size_t i = 0; i < sizeof none / sizeof *none; i++)
		ck_assert_int_eq(scan_str(none[i], &s), JSON_OK);
	ck_assert_str_eq(s.text, "");
}
END_TEST

START_TEST(tells_members_before_a_fault)
{
	struct seen s = {""};

	ck_assert_int_eq(scan_str("{\"id\":\"7\",\"n\":[1,2],\"text\":\"cut of", &s), JSON_BROKEN);
	ck_assert_str_eq(s.text, "id=\"7\";n=[1,2];");
	s = (struct seen){""};
	ck_assert_int_eq(scan_str("{\"id\":\"7\",\"t\":\"\xff\",\"\xff\":1}", &s), JSON_NOT_UTF8);
	ck_assert_str_eq(s.text, "id=\"7\";t=\"\xff\";\xff=1;");
}
END_TEST

/* inside, in so many brackets. */
static void add_nested(struct buf *b, size_t levels, const char *inside)
{
	for (size_t i = 0; i < levels; i++)
		buf_char(b, '[');
	buf_str_add(b, inside);
	for (size_t i = 0; i < levels; i++)
		buf_char(b, ']');
}

static enum json_verdict nested(size_t levels, const char *inside)
{
	struct buf b = BUF_INIT(1 << 22);
	enum json_verdict v;

	add_nested(&b, levels, inside);
	v = scan(b.ptr, b.len, NULL);
	buf_release(&b);
	return v;
}

START_TEST(depth_is_bounded)
{
	ck_assert_int_eq(nested(JSON_DEPTH_MAX, ""), JSON_OK);
	ck_assert_int_eq(nested(JSON_DEPTH_MAX, "0"), JSON_OK);
	ck_assert_int_eq(nested(JSON_DEPTH_MAX + 1, ""), JSON_TOO_DEEP);
	ck_assert_int_eq(nested(JSON_DEPTH_MAX, "{}"), JSON_TOO_DEEP);
	ck_assert_int_eq(nested(DEEP_LEVELS, "\"]]]\""), JSON_TOO_DEEP);
	ck_assert_int_eq(nested(DEEP_LEVELS, "\""), JSON_BROKEN);
	ck_assert_int_eq(nested(JSON_DEPTH_MAX - 1, "[],[]"), JSON_OK);
	ck_assert_int_eq(nested(JSON_DEPTH_MAX, "],["), JSON_OK);
	ck_assert_int_eq(nested(JSON_DEPTH_MAX, "[1],[2]"), JSON_TOO_DEEP);
	ck_assert_int_eq(nested(JSON_DEPTH_MAX, "[1] [2]"), JSON_BROKEN);
}
END_TEST

/* Text around something too deep is read as ever. */
static const struct {
	const char *inside, *behind;
	enum json_verdict want;
	const char *members;
} beside[] = {
	{"", ",\"b\":2}", JSON_TOO_DEEP, "a=1;deep=*;b=2;"},
	{"\"\\\"]]\"", ",\"b\":\"\xff\"}", JSON_TOO_DEEP, "a=1;deep=*;b=\"\xff\";"},
	{"{\"x\":[]}", ",\"b\":2}", JSON_TOO_DEEP, "a=1;deep=*;b=2;"},
	{"\"\xff\"", "}", JSON_TOO_DEEP, "a=1;deep=*;"},
	{"", ",\"b\":2,}", JSON_BROKEN, "a=1;deep=*;b=2;"},
	{"", ",\"b\":2", JSON_BROKEN, "a=1;deep=*;b=2;"},
	{"", "]", JSON_BROKEN, "a=1;deep=*;"},
	{"", ",\"b\":tru}", JSON_BROKEN, "a=1;deep=*;"},
	{"", "}}", JSON_BROKEN, "a=1;deep=*;"},
	{"[", ",\"b\":2}", JSON_BROKEN, "a=1;"},
	{"\"\\x\"", ",\"b\":2}", JSON_BROKEN, "a=1;"},
	{"\"\n\"", ",\"b\":2}", JSON_BROKEN, "a=1;"},
	{"\"", ",\"b\":2}", JSON_BROKEN, "a=1;"},
};

START_TEST(what_stands_beside_a_deep_value_counts)
{
	static const size_t levels[] = {JSON_DEPTH_MAX, JSON_DEPTH_MAX + 1, DEEP_LEVELS};

	for (size_t i = 0; i < sizeof levels / sizeof *levels; i++) {
		struct buf b = BUF_INIT(4UL * DEEP_LEVELS);
		struct seen seen = {""};

		buf_str_add(&b, "{\"a\":1,\"deep\":");
		add_nested(&b, levels[i], beside[_i].inside);
		buf_str_add(&b, beside[_i].behind);
		ck_assert_int_eq(scan(b.ptr, b.len, &seen), beside[_i].want);
		ck_assert_str_eq(seen.text, beside[_i].members);
		ck_assert_ptr_null(json_parse(b.ptr, b.len));
		buf_release(&b);
	}
}
END_TEST

START_TEST(large_texts_are_read)
{
	struct buf b = BUF_INIT(LARGE_BYTES + 100);
	struct seen seen = {""};

	buf_str_add(&b, "{\"id\":\"1\",\"text\":\"");
	while (b.len < LARGE_BYTES)
		buf_str_add(&b, "abc \xc9\x9b\\n");
	buf_str_add(&b, "\",\"last\":[]}");
	ck_assert_int_eq(scan(b.ptr, b.len, &seen), JSON_OK);
	ck_assert_str_eq(seen.text, "id=\"1\";text=*;last=[];");
	ck_assert_int_eq(scan(b.ptr, b.len - 1, NULL), JSON_BROKEN);
	memset(b.ptr, '[', LARGE_BYTES);
	ck_assert_int_eq(scan(b.ptr, LARGE_BYTES, NULL), JSON_BROKEN);
	memset(b.ptr + LARGE_BYTES / 2, ']', LARGE_BYTES / 2);
	ck_assert_int_eq(scan(b.ptr, LARGE_BYTES, NULL), JSON_TOO_DEEP);
	buf_release(&b);
}
END_TEST

START_TEST(utf8_is_checked)
{
	static const char *const bad[] = {
		"\"\xff\"",	"\"\xc3\"",	"\"\xc0\x80\"", "\"\xed\xa0\x80\"",	"\"\xf4\x90\x80\x80\"",
		"{\"\xff\":1}", "\"\xe2\x82\"", "\"\x80\"",	"[\"\xf0\x9f\x98\",1]", "\"\xe2\\n\""};

	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		ck_assert_int_eq(scan_str(bad[i], NULL), JSON_NOT_UTF8);
}
END_TEST

START_TEST(the_earliest_verdict_wins)
{
	ck_assert_int_eq(nested(JSON_DEPTH_MAX + 1, "\"\xff\""), JSON_TOO_DEEP);
	ck_assert_int_eq(scan_str("[\"\xff\",01]", NULL), JSON_BROKEN);
	ck_assert_int_eq(scan_str("[\"\xff\"", NULL), JSON_BROKEN);
	ck_assert_int_eq(scan_str("\"\xff\" 1", NULL), JSON_BROKEN);
}
END_TEST

static const struct {
	const char *text;
	enum json_type type;
} typed[] = {
	{" {}", JSON_OBJECT}, {"\n[1]", JSON_ARRAY}, {"\"{\"", JSON_STRING}, {"-1", JSON_NUMBER},
	{"0", JSON_NUMBER},   {"true", JSON_BOOL},   {"false", JSON_BOOL},   {"null", JSON_NULL},
};

START_TEST(the_type_is_that_of_the_text)
{
	struct json *j = json_parse(typed[_i].text, strlen(typed[_i].text));
	enum json_type type;

	ck_assert_int_eq(json_scan(typed[_i].text, strlen(typed[_i].text), &type, NULL, NULL), JSON_OK);
	ck_assert_int_eq(type, typed[_i].type);
	ck_assert_ptr_nonnull(j);
	ck_assert_int_eq(json_type(j), typed[_i].type);
	json_free(j);
}
END_TEST

/* --- Random texts. ------------------------------------------------------------------------------------------------------ */

static size_t below(size_t n)
{
	return (size_t)rand() % n;
}

static void make_space(struct buf *b)
{
	while (below(4) == 0)
		buf_char(b, " \n\t\r"[below(4)]);
}

static void make_scalar(struct buf *b)
{
	static const char *const some[] = {"true",
					   "false",
					   "null",
					   "0",
					   "-0",
					   "17",
					   "-3.25",
					   "1e3",
					   "2E-2",
					   "0.5e+1",
					   "\"\"",
					   "\"a\"",
					   "\"\\n\\/\"",
					   "\"\\u00e9\\u0800\"",
					   "\"\xc9\x9b\"",
					   "\"]}\"",
					   "\"\\\"\"",
					   "\"\\\\\"",
					   "\"\\ud83d\\ude00\"",
					   "\"\\b\\f\\r\\t\""};

	buf_str_add(b, some[below(sizeof some / sizeof *some)]);
}

static void make_value(struct buf *b, int levels)
{
	bool object = below(2);

	make_space(b);
	if (levels == 0 || below(4) == 0) {
		make_scalar(b);
		make_space(b);
		return;
	}
	buf_char(b, object ? '{' : '[');
	make_space(b);
	for (size_t i = 0, n = below(4); i < n; i++) {
		buf_str_add(b, i > 0 ? "," : "");
		make_space(b);
		buf_str_add(b, !object ? "" : below(3) ? "\"k\"" : "\"\\u006b\\\"\"");
		make_space(b);
		buf_str_add(b, object ? ":" : "");
		make_value(b, levels - 1);
	}
	buf_char(b, object ? '}' : ']');
	make_space(b);
}

/* The judge: RFC 8259 by recursive descent, over a text that ends with a NUL. Each returns what lies behind its thing, NULL for a fault. */
static const char *judge_space(const char *s)
{
	return s + strspn(s, " \t\r\n");
}

static const char *judge_digits(const char *s)
{
	size_t n = strspn(s, "0123456789");

	return n > 0 ? s + n : NULL;
}

static const char *judge_number(const char *s)
{
	s += *s == '-';
	s = *s == '0' ? s + 1 : judge_digits(s);
	if (s && *s == '.')
		s = judge_digits(s + 1);
	if (s && (*s == 'e' || *s == 'E')) {
		s++;
		s = judge_digits(s + (*s == '-' || *s == '+'));
	}
	return s;
}

static const char *judge_string(const char *s)
{
	if (*s++ != '"')
		return NULL;
	for (; *s != '"'; s++) {
		if ((unsigned char)*s < 0x20)
			return NULL;
		if (*s != '\\')
			continue;
		s++;
		if (*s == 'u' && strspn(s + 1, "0123456789abcdefABCDEF") >= 4)
			s += 4;
		else if (!*s || !strchr("\"\\/bfnrt", *s))
			return NULL;
	}
	return s + 1;
}

static const char *judge_value(const char *s);

static const char *judge_members(const char *s, char end)
{
	if (*judge_space(s) == end)
		return judge_space(s) + 1;
	do {
		if (end == '}') {
			s = judge_string(judge_space(s));
			if (!s || *judge_space(s) != ':')
				return NULL;
			s = judge_space(s) + 1;
		}
		s = judge_value(s);
	} while (s && *s++ == ',');
	return s && s[-1] == end ? s : NULL;
}

static const char *judge_word(const char *s)
{
	static const char *const words[] = {"true", "false", "null"};

	for (size_t i = 0; i < 3; i++)
		if (strncmp(s, words[i], strlen(words[i])) == 0)
			return s + strlen(words[i]);
	return NULL;
}

static const char *judge_value(const char *s)
{
	s = judge_space(s);
	if (*s == '{' || *s == '[')
		s = judge_members(s + 1, *s == '{' ? '}' : ']');
	else if (*s == '"')
		s = judge_string(s);
	else if (strchr("tfn", *s) && *s)
		s = judge_word(s);
	else
		s = judge_number(s);
	return s ? judge_space(s) : NULL;
}

static bool judge(const char *text)
{
	const char *behind = judge_value(text);

	return behind && !*behind;
}

/* Walks the tree's children beside the scan's members. */
struct walk {
	const struct json *child;
	struct buf text;
};

static void same_as_child(void *ctx, struct span key, struct span value)
{
	struct walk *w = ctx;
	int64_t n;
	double d;

	ck_assert_ptr_nonnull(w->child);
	ck_assert(json_key_is(key, json_name(w->child)));
	ck_assert_int_eq(json_span_type(value), json_type(w->child));
	ck_assert_int_eq(json_span_is_true(value), json_true(w->child));
	ck_assert_int_eq(scan(value.ptr, value.len, NULL), JSON_OK);
	if (json_span_type(value) == JSON_STRING) {
		buf_clear(&w->text);
		ck_assert(json_span_string(value, &w->text));
		ck_assert_str_eq(buf_cstr(&w->text), json_text(w->child));
	}
	if (json_double(w->child, &d) && d > -1e15 && d < 1e15) {
		ck_assert_int_eq(json_span_int(value, &n), (double)(int64_t)d == d);
		if ((double)(int64_t)d == d)
			ck_assert_int_eq(n, (int64_t)d);
	}
	w->child = json_next(w->child);
}

START_TEST(good_random_texts_are_read_alike)
{
	struct buf b = BUF_INIT(1 << 20);
	struct walk w = {.text = BUF_INIT(100)};

	srand(1);
	for (int round = 0; round < ROUNDS; round++) {
		struct json *j;

		buf_clear(&b);
		make_value(&b, 4);
		ck_assert_msg(judge(b.ptr), "the judge does not know %s", b.ptr);
		j = json_parse(b.ptr, b.len);
		ck_assert_msg(j != NULL, "%s", b.ptr);
		w.child = json_type(j) == JSON_OBJECT ? json_first(j) : NULL;
		ck_assert_int_eq(json_scan(b.ptr, b.len, NULL, same_as_child, &w), JSON_OK);
		ck_assert_ptr_null(w.child);
		json_free(j);
	}
	buf_release(&b);
	buf_release(&w.text);
}
END_TEST

static void mutate(struct buf *b)
{
	static const char alphabet[] = "{}[]\",:\\u0019-+.eE tfn/a\n\x01\x7f\x80\xc9\x9b\xff";
	size_t at = below(b->len);
	char c = alphabet[below(sizeof alphabet - 1)];

	switch (below(3)) {
	case 0:
		b->ptr[at] = c;
		break;
	case 1:
		memmove(b->ptr + at, b->ptr + at + 1, b->len - at);
		b->len--;
		break;
	default:
		buf_char(b, c);
		memmove(b->ptr + at + 1, b->ptr + at, b->len - 1 - at);
		b->ptr[at] = c;
	}
}

START_TEST(damaged_random_texts_are_judged_alike)
{
	struct buf b = BUF_INIT(1 << 20);
	int broken_texts = 0, not_utf8 = 0;

	srand(2);
	for (int round = 0; round < ROUNDS; round++) {
		buf_clear(&b);
		make_value(&b, 3);
		for (int i = 0; i < MUTATIONS && b.len > 0; i++) {
			enum json_verdict v, want = JSON_BROKEN;
			struct json *j;

			mutate(&b);
			if (judge(buf_cstr(&b)))
				want = utf8_valid(b.ptr, b.len) ? JSON_OK : JSON_NOT_UTF8;
			v = scan(b.ptr, b.len, NULL);
			ck_assert_msg(v == want, "%d instead of %d: %s", v, want, b.ptr);
			j = json_parse(b.ptr, b.len);
			ck_assert_msg((j != NULL) == (want != JSON_BROKEN), "tree of %s", b.ptr);
			json_free(j);
			broken_texts += want == JSON_BROKEN;
			not_utf8 += want == JSON_NOT_UTF8;
		}
	}
	ck_assert(broken_texts > ROUNDS && not_utf8 > 10); /* it was about something */
	buf_release(&b);
}
END_TEST

/* --- Spans. ------------------------------------------------------------------------------------------------------------- */

static struct span span(const char *s)
{
	return (struct span){s, strlen(s)};
}

static const struct {
	const char *text;
	bool is_int;
	int64_t n;
} ints[] = {
	{"0", true, 0},
	{"-0", true, 0},
	{"0.000e5", true, 0},
	{"0e-99999999999999999999", true, 0},
	{"42", true, 42},
	{"-5.0", true, -5},
	{"1e3", true, 1000},
	{"1E+3", true, 1000},
	{"12.50e1", true, 125},
	{"12.50e2", true, 1250},
	{"1200e-2", true, 12},
	{"-120.00e-1", true, -12},
	{"9007199254740993", true, 9007199254740993},
	{"9007199254740993.0", true, 9007199254740993},
	{"9223372036854775806", true, INT64_MAX - 1},
	{"9223372036854775807", true, INT64_MAX},
	{"922337203685477580.7e1", true, INT64_MAX},
	{"-9223372036854775808", true, INT64_MIN},
	{"-9223372036854775807", true, -INT64_MAX},
	{"1.000000000000000000000000000000000000000000000000000000000000000000000000", true, 1},
	{"0.00000000000000000000000000000000000000000000000000000000000000000000007e71", true, 7},
	{"9223372036854775808", false, 0},
	{"-9223372036854775809", false, 0},
	{"99999999999999999999", false, 0},
	{"18446744073709551616", false, 0},
	{"1e19", false, 0},
	{"1e999999999999999999999999", false, 0},
	{"1e-999999999999999999999999", false, 0},
	{"1.5", false, 0},
	{"-0.1", false, 0},
	{"15e-1", false, 0},
	{"9007199254740993.5", false, 0},
	{"\"1\"", false, 0},
	{"true", false, 0},
	{"null", false, 0},
	{"[1]", false, 0},
};

START_TEST(integers_are_exact)
{
	size_t len = strlen(ints[_i].text);
	char *exact = malloc(len);
	int64_t n = 77;

	memcpy(exact, ints[_i].text, len);
	ck_assert_int_eq(json_scan(exact, len, NULL, NULL, NULL), JSON_OK);
	ck_assert_int_eq(json_span_int((struct span){exact, len}, &n), ints[_i].is_int);
	ck_assert_int_eq(n, ints[_i].is_int ? ints[_i].n : 77);
	free(exact);
}
END_TEST

static const struct {
	const char *text, *plain; /* NULL: not to be had */
} strings[] = {
	{"\"\"", ""},
	{"\"abc\"", "abc"},
	{"\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"", "\"\\/\b\f\n\r\t"},
	{"\"a\\n\\u00e9\\ud83d\\ude00\\/\"", "a\n\xc3\xa9\xf0\x9f\x98\x80/"},
	{"\"\\u0001\\u007f\\u0080\\u07ff\\u0800\\uffff\"", "\x01\x7f\xc2\x80\xdf\xbf\xe0\xa0\x80\xef\xbf\xbf"},
	{"\"\\uD800\\uDC00\\uDBFF\\uDFFF\"", "\xf0\x90\x80\x80\xf4\x8f\xbf\xbf"},
	{"\"\\ud7ff\\ue000\"", "\xed\x9f\xbf\xee\x80\x80"},
	{"\"\\\\u0041\"", "\\u0041"},
	{"\"\\ud800x\"", NULL},
	{"\"\\udc00\"", NULL},
	{"\"\\ud800\"", NULL},
	{"\"\\ud800\\n\"", NULL},
	{"\"\\ud800\\ud800\"", NULL},
	{"\"\\ud800\\u0041\"", NULL},
	{"\"\\udc00\\ud800\"", NULL},
	{"\"fine until \\udfff\"", NULL},
};

START_TEST(strings_are_unescaped)
{
	struct buf b = BUF_INIT(100);
	size_t len = strlen(strings[_i].text);
	char *exact = malloc(len);

	memcpy(exact, strings[_i].text, len);
	buf_str_add(&b, "> ");
	ck_assert_int_eq(json_span_string((struct span){exact, len}, &b), strings[_i].plain != NULL);
	ck_assert_str_eq(b.ptr + 2, strings[_i].plain ? strings[_i].plain : "");
	buf_release(&b);
	free(exact);
}
END_TEST

START_TEST(an_escaped_nul_is_found)
{
	struct buf b = BUF_INIT(100);

	ck_assert(json_span_has_nul(span("\"a\\u0000\"")) && json_span_has_nul(span("\"\\\\\\u0000\"")));
	ck_assert(!json_span_has_nul(span("\"a\\\\u0000\"")) && !json_span_has_nul(span("\"u0000\"")));
	ck_assert(!json_span_has_nul(span("\"\\u0001\"")) && !json_span_has_nul(span("\"\"")));
	ck_assert(json_span_string(span("\"a\\u0000b\""), &b) && b.len == 3 && memcmp(b.ptr, "a\0b", 3) == 0);
	buf_release(&b);
}
END_TEST

START_TEST(keys_are_compared_unescaped)
{
	char long_key[3000];

	ck_assert(json_key_is(span("id"), "id") && !json_key_is(span("Id"), "id") && !json_key_is(span("i"), "id") &&
		  !json_key_is(span("idx"), "id"));
	ck_assert(json_key_is(span("\\u0069d"), "id") && json_key_is(span("\\u0069\\u0064"), "id") &&
		  !json_key_is(span("\\u0069dx"), "id"));
	ck_assert(json_key_is(span("a\\/b"), "a/b") && json_key_is(span(""), "") && !json_key_is(span(""), "id"));
	ck_assert(!json_key_is(span("id\\u0000"), "id") && !json_key_is(span("\\ud800"), "") &&
		  !json_key_is(span("\\ud800id"), "id"));
	memset(long_key, 'x', sizeof long_key);
	memcpy(long_key, "\\u0069d", 7);
	ck_assert(!json_key_is((struct span){long_key, sizeof long_key}, "id"));
}
END_TEST

/* --- The tree. ---------------------------------------------------------------------------------------------------------- */

START_TEST(tree_softens_what_cjson_cannot_hold)
{
	const char *text =
		"\xef\xbb\xbf{\"a\":\"x\\u0000y\",\"b\":\"\\ud800\",\"c\":\"\\\\u0000\",\"d\":\"\xff\",\"e\":\"\\ud83d\\ude00\","
		"\"f\":\"\\udc00\\ud800\\ud83d\\uDE00\\\\\\u0000\",\"g\":\"\\ud800\\u0041\\ud800\\n\",\"h\\u0000\":\"\xe2\x82\"}";
	static const char *const want[] = {"x" UTF8_REPLACEMENT "y",
					   UTF8_REPLACEMENT,
					   "\\u0000",
					   UTF8_REPLACEMENT,
					   "\xf0\x9f\x98\x80",
					   UTF8_REPLACEMENT UTF8_REPLACEMENT "\xf0\x9f\x98\x80\\" UTF8_REPLACEMENT,
					   UTF8_REPLACEMENT "A" UTF8_REPLACEMENT "\n",
					   UTF8_REPLACEMENT};
	struct json *j = json_parse(text, strlen(text));
	const struct json *c = json_first(j);

	ck_assert_uint_eq(json_count(j), sizeof want / sizeof *want);
	for (size_t i = 0; i < sizeof want / sizeof *want; i++, c = json_next(c))
		ck_assert_str_eq(json_text(c), want[i]);
	ck_assert_str_eq(json_text(json_get(j, "h" UTF8_REPLACEMENT)), UTF8_REPLACEMENT);
	json_free(j);
}
END_TEST

START_TEST(tree_refuses_what_the_scan_refuses)
{
	static const char *const bad[] = {"",		"{",	  "01",		  "[1,]",
					  "{\"a\":1}x", "\"\n\"", "\xef\xbb\xbf", "\xef\xbb\xbf\xef\xbb\xbf{}",
					  "\xef\xbb",	"nan"};

	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		ck_assert_msg(!json_parse(bad[i], strlen(bad[i])), "%s", bad[i]);
	json_free(NULL);
}
END_TEST

START_TEST(tree_is_walked)
{
	const char *text =
		"{\"s\":\"x\",\"n\":-2.5e1,\"t\":true,\"f\":false,\"z\":null,\"a\":[1,\"2\",{}],\"S\":\"big\",\"s\":\"again\"}";
	struct json *j = json_parse(text, strlen(text));
	const struct json *a = json_get(j, "a");
	double d = 0;

	ck_assert_str_eq(json_text(json_get(j, "s")), "x");
	ck_assert_str_eq(json_text(json_get(j, "S")), "big");
	ck_assert(json_double(json_get(j, "n"), &d) && d > -25.1 && d < -24.9);
	ck_assert(json_true(json_get(j, "t")) && !json_true(json_get(j, "f")) && !json_true(json_get(j, "n")));
	ck_assert_int_eq(json_type(json_get(j, "z")), JSON_NULL);
	ck_assert(json_get(j, "z") && !json_get(j, "missing") && !json_get(a, "s") && !json_get(json_get(j, "s"), "s"));
	ck_assert_uint_eq(json_count(j), 8);
	ck_assert_uint_eq(json_count(a), 3);
	ck_assert_int_eq(json_type(json_next(json_next(json_first(a)))), JSON_OBJECT);
	ck_assert_ptr_null(json_next(json_next(json_next(json_first(a)))));
	ck_assert(!json_name(json_first(a)) && strcmp(json_name(json_first(j)), "s") == 0);
	ck_assert(!json_text(json_get(j, "n")) && !json_double(json_get(j, "s"), &d) &&
		  !json_double(json_get(j, "t"), &d));
	ck_assert(!json_first(json_get(j, "s")) && json_count(json_get(j, "s")) == 0);
	json_free(j);
}
END_TEST

START_TEST(nothing_is_taken_for_null)
{
	double d;

	ck_assert_int_eq(json_type(NULL), JSON_NULL);
	ck_assert(!json_get(NULL, "a") && !json_text(NULL) && !json_double(NULL, &d) && !json_true(NULL));
	ck_assert(json_count(NULL) == 0 && !json_first(NULL) && !json_next(NULL) && !json_name(NULL));
}
END_TEST

static void note_element(void *ctx, struct span key, struct span value)
{
	struct buf *out = ctx;

	ck_assert_ptr_null(key.ptr);
	buf_char(out, '<');
	buf_add(out, value.ptr, value.len);
	buf_char(out, '>');
}

static const struct {
	const char *text, *elements;
	enum json_verdict verdict;
} arrays[] = {
	{"[]", "", JSON_OK},
	{" [ ] ", "", JSON_OK},
	{"[1]", "<1>", JSON_OK},
	{"[ 1 , \"a,]\" ,{\"b\":[2,3]}, [4,[5]], null ]", "<1><\"a,]\"><{\"b\":[2,3]}><[4,[5]]><null>", JSON_OK},
	{"{\"a\":[1]}", "", JSON_OK},
	{"5", "", JSON_OK},
	{"[1,", "<1>", JSON_BROKEN},
	{"[1]x", "<1>", JSON_BROKEN},
	{"[\"\xff\"]", "<\"\xff\">", JSON_NOT_UTF8},
};

START_TEST(elements_are_told)
{
	struct buf out = BUF_INIT(1000);

	ck_assert_int_eq(json_elements((struct span){arrays[_i].text, strlen(arrays[_i].text)}, note_element, &out),
			 arrays[_i].verdict);
	ck_assert_str_eq(buf_cstr(&out), arrays[_i].elements);
	buf_release(&out);
}
END_TEST

static const struct {
	const char *text, *clean;
} dirty[] = {
	{"", ""},
	{"{\"a\":1e-7}", "{\"a\":1e-7}"},
	{"\"\\ud83d\\ude00\"", "\"\\ud83d\\ude00\""},
	{"\"\\ud83d\"", "\"\\ufffd\""},
	{"\"\\ude00\"", "\"\\ufffd\""},
	{"\"\\ud83dx\"", "\"\\ufffdx\""},
	{"\"\\ud83d\\u0041\"", "\"\\ufffd\\u0041\""},
	{"\"\\ud83d\\ud83d\\ude00\"", "\"\\ufffd\\ud83d\\ude00\""},
	{"\"\\\\ud83d\"", "\"\\\\ud83d\""},
	{"\"\\u0000\"", "\"\\u0000\""},
	{"\"\\\"\\u00e9\xc3\xa9\"", "\"\\\"\\u00e9\xc3\xa9\""},
	{"\"a\xff"
	 "b\"",
	 "\"a\xef\xbf\xbd"
	 "b\""},
	{"\"\xed\xa0\x80\"", "\"\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd\""},
	{"\"\xf0\x9f\x98\"", "\"\xef\xbf\xbd\""},
	{"{\n  \"a\" :\r\n\t[1.50,\n2] }\n", "{   \"a\" :  \t[1.50, 2] } "},
	{"\"a\\nb\"", "\"a\\nb\""},
	{"\\\n", "\\ "},
	{"\\", "\\"},
};

START_TEST(what_is_no_unicode_is_replaced_and_lines_are_joined)
{
	struct buf out = BUF_INIT(1000);

	json_add_clean(&out, (struct span){dirty[_i].text, strlen(dirty[_i].text)});
	ck_assert_str_eq(buf_cstr(&out), dirty[_i].clean);
	buf_release(&out);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("json");
	TCase *t = tcase_create("all");
	SRunner *r;
	int failed;

	tcase_set_timeout(t, 60); /* 17 MiB under a sanitizer on a busy machine */
	tcase_add_loop_test(t, takes_what_is_json, 0, sizeof good / sizeof *good);
	tcase_add_loop_test(t, refuses_what_is_not, 0, sizeof broken / sizeof *broken);
	tcase_add_test(t, a_nul_ends_nothing);
	tcase_add_test(t, cut_texts_are_broken);
	tcase_add_test(t, tells_members_as_they_stand);
	tcase_add_test(t, tells_members_of_the_outermost_object_only);
	tcase_add_test(t, tells_members_before_a_fault);
	tcase_add_test(t, depth_is_bounded);
	tcase_add_loop_test(t, what_stands_beside_a_deep_value_counts, 0, sizeof beside / sizeof *beside);
	tcase_add_test(t, large_texts_are_read);
	tcase_add_test(t, utf8_is_checked);
	tcase_add_test(t, the_earliest_verdict_wins);
	tcase_add_loop_test(t, the_type_is_that_of_the_text, 0, sizeof typed / sizeof *typed);
	tcase_add_test(t, good_random_texts_are_read_alike);
	tcase_add_test(t, damaged_random_texts_are_judged_alike);
	tcase_add_loop_test(t, integers_are_exact, 0, sizeof ints / sizeof *ints);
	tcase_add_loop_test(t, strings_are_unescaped, 0, sizeof strings / sizeof *strings);
	tcase_add_test(t, an_escaped_nul_is_found);
	tcase_add_loop_test(t, elements_are_told, 0, sizeof arrays / sizeof *arrays);
	tcase_add_loop_test(t, what_is_no_unicode_is_replaced_and_lines_are_joined, 0, sizeof dirty / sizeof *dirty);
	tcase_add_test(t, keys_are_compared_unescaped);
	tcase_add_test(t, tree_softens_what_cjson_cannot_hold);
	tcase_add_test(t, tree_refuses_what_the_scan_refuses);
	tcase_add_test(t, tree_is_walked);
	tcase_add_test(t, nothing_is_taken_for_null);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
