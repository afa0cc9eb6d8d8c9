/* SPDX-License-Identifier: MIT
 *
 * Long text in pieces: where each cut falls, that nothing is lost, and that no text makes it slow. */
#include <check.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/buf.h"
#include "base/utf8.h"
#include "text/cut.h"
#include "text/grapheme.h"

#define ACUTE "\xcc\x81"				      /* U+0301, joins what stands before it */
#define NBSP "\xc2\xa0"					      /* U+00A0 */
#define FLAG "\xf0\x9f\x87\xac\xf0\x9f\x87\xad"		      /* Ghana: two code points */
#define FAMILY "\xf0\x9f\x91\xa9\xe2\x80\x8d\xf0\x9f\x91\xa7" /* woman, joiner, girl */
#define HAND "\xe2\x9c\x8b\xf0\x9f\x8f\xbd"		      /* a hand and its skin tone */
#define LONG 200000

static struct cut c;
static struct error err;
static struct buf b;

static void setup(void)
{
	b = BUF_INIT(SIZE_MAX / 4);
	err = (struct error){0};
	srand(1);
}

static void teardown(void)
{
	cut_release(&c);
	buf_release(&b);
}

/* Glue and pieces as they stand in the text, pieces in brackets. */
static const char *shown(void)
{
	buf_clear(&b);
	for (size_t i = 0; i <= c.count; i++) {
		struct span glue = cut_glue(&c, i);

		buf_add(&b, glue.ptr, glue.len);
		if (i == c.count)
			break;
		buf_char(&b, '[');
		buf_add(&b, c.pieces[i].ptr, c.pieces[i].len);
		buf_char(&b, ']');
	}
	return buf_cstr(&b);
}

static const struct {
	const char *text;
	size_t max;
	const char *want;
} rows[] = {
	/* What fits is left alone. */
	{"", 5, "[]"},
	{"abc", 3, "[abc]"},
	{" \n ", 3, "[ \n ]"},
	{" a. b ", 6, "[ a. b ]"},
	{"\xc9\x9b\xc9\x94\xe2\x82\xac", 3, "[\xc9\x9b\xc9\x94\xe2\x82\xac]"},

	/* Sentence ends, packed greedily. */
	{"Aa. Bb. Cc.", 3, "[Aa.] [Bb.] [Cc.]"},
	{"Aa. Bb. Cc.", 6, "[Aa.] [Bb.] [Cc.]"},
	{"Aa. Bb. Cc.", 7, "[Aa. Bb.] [Cc.]"},
	{"Aa. Bb. Cc.", 10, "[Aa. Bb.] [Cc.]"},
	{"Aa. Bb! Cc? Dd\xe2\x80\xa6 Ee", 4, "[Aa.] [Bb!] [Cc?] [Dd\xe2\x80\xa6] [Ee]"},
	{"Aa. bb cc dd", 9, "[Aa.] [bb cc dd]"},
	{"Aa?! Bb... Cc", 7, "[Aa?!] [Bb...] [Cc]"},
	{"3.14 a.b.c d", 8, "[3.14] [a.b.c d]"},
	{"a.b. cd", 5, "[a.b.] [cd]"},
	{"Aa.  \t Bb.", 6, "[Aa.]  \t [Bb.]"},
	{"Aa." NBSP "Bb.", 6, "[Aa.]" NBSP "[Bb.]"},

	/* Closing quotes and brackets belong to the sentence. */
	{"\"Aa.\" Bb cc", 8, "[\"Aa.\"] [Bb cc]"},
	{"'Aa!' Bb cc", 8, "['Aa!'] [Bb cc]"},
	{"(Aa.) Bb cc", 8, "[(Aa.)] [Bb cc]"},
	{"[Aa?)] Bb cc", 9, "[[Aa?)]] [Bb cc]"},
	{"\xe2\x80\x9c"
	 "Aa.\xe2\x80\x9d Bb cc",
	 8,
	 "[\xe2\x80\x9c"
	 "Aa.\xe2\x80\x9d] [Bb cc]"},
	{"\xe2\x80\x9e"
	 "Aa.\xe2\x80\x9c Bb cc",
	 8,
	 "[\xe2\x80\x9e"
	 "Aa.\xe2\x80\x9c] [Bb cc]"},
	{"\xc2\xab"
	 "Aa.\xc2\xbb Bb cc",
	 8,
	 "[\xc2\xab"
	 "Aa.\xc2\xbb] [Bb cc]"},
	{"\xe2\x80\x98"
	 "Aa.\xe2\x80\x99 Bb cc",
	 8,
	 "[\xe2\x80\x98"
	 "Aa.\xe2\x80\x99] [Bb cc]"},
	{"Aa.x\" Bb ccc", 8, "[Aa.x\" Bb] [ccc]"}, /* no full stop right before the quote */
	{"Aa (b) cc ddd", 9, "[Aa (b) cc] [ddd]"},
	{"Aa. (Bb cc)", 10, "[Aa.] [(Bb cc)]"},
	{"Aa. \" bb ccc", 9, "[Aa.] [\" bb ccc]"}, /* white space came first */

	/* Newlines; paragraphs live on in the glue. */
	{"Title\nAa bb", 8, "[Title]\n[Aa bb]"},
	{"Aa\n\nBb cc", 6, "[Aa]\n\n[Bb cc]"},
	{"Aa\r\n\r\nBb cc", 7, "[Aa]\r\n\r\n[Bb cc]"},
	{"Aa \n Bb cc", 7, "[Aa] \n [Bb cc]"},
	{"Aa\rBb cc", 6, "[Aa]\r[Bb cc]"},
	{"Aa\xe2\x80\xa8"
	 "Bb cc",
	 6, "[Aa]\xe2\x80\xa8[Bb cc]"},
	{"Aa\xe2\x80\xa9"
	 "Bb cc",
	 6, "[Aa]\xe2\x80\xa9[Bb cc]"},
	{"Aa\xc2\x85"
	 "Bb cc",
	 6, "[Aa]\xc2\x85[Bb cc]"},
	{"a\nb\n\nc\nd", 4, "[a\nb]\n\n[c\nd]"},

	/* A sentence that is too long: at white space, else hard. */
	{"aa bb cc dd", 5, "[aa bb] [cc dd]"},
	{"aa bb cc dd", 6, "[aa bb] [cc dd]"},
	{"aa bb cc dd", 7, "[aa bb] [cc dd]"},
	{"aa bb cc dd", 8, "[aa bb cc] [dd]"},
	{"abcdefgh", 3, "[abc][def][gh]"},
	{"aa bbbbbbb", 4, "[aa] [bbbb][bbb]"},
	{"X. aaaa bbbb. Y.", 6, "[X.] [aaaa] [bbbb.] [Y.]"},
	{"X. aaaa bbbb. Y.", 8, "[X.] [aaaa] [bbbb. Y.]"}, /* the remainder goes on as a sentence */
	{"abc   def", 5, "[abc]   [def]"},
	{"abc     ", 5, "[abc]     "},
	{"A. b      c", 6, "[A.] [b]      [c]"},
	{"A. b.      c", 6, "[A. b.]      [c]"},
	{"One. two      ", 8, "[One. two]      "},
	{"One. two      \n", 8, "[One. two]      \n"},
	{"A. bb      cc", 5, "[A.] [bb]      [cc]"},

	/* White space around and alone. */
	{"  abc def  ", 8, "  [abc def]  "},
	{"      abc", 3, "      [abc]"},
	{"\n\n\n\n", 3, "\n\n\n\n"},
	{"    ", 1, "    "},
	{NBSP NBSP, 1, NBSP NBSP},

	/* Graphemes stay whole. */
	{"aae" ACUTE "b", 3, "[aa][e" ACUTE "b]"},
	{"ae" ACUTE "b", 3, "[ae" ACUTE "][b]"},
	{"ab" FLAG FLAG, 3, "[ab][" FLAG "][" FLAG "]"},
	{"a" FLAG FLAG, 4, "[a" FLAG "][" FLAG "]"},
	{"ab" FAMILY "c", 4, "[ab][" FAMILY "c]"},
	{"ab" HAND, 3, "[ab][" HAND "]"},
	{"abc \r\nd", 5, "[abc] \r\n[d]"},
	{"a " ACUTE "b", 3, "[a " ACUTE "][b]"}, /* this space carries an accent */
	{"a." ACUTE " b c", 5, "[a." ACUTE "] [b c]"},
	{"\xe1\x84\x92\xe1\x85\xa1\xe1\x86\xab\xe1\x84\x92", 3,
	 "[\xe1\x84\x92\xe1\x85\xa1\xe1\x86\xab][\xe1\x84\x92]"}, /* a syllable of three letters */

	/* Unless one alone is longer than the limit. */
	{"e" ACUTE ACUTE ACUTE "b", 2, "[e" ACUTE "][" ACUTE ACUTE "][b]"},
	{"ae" ACUTE ACUTE ACUTE "b c", 3, "[a][e" ACUTE ACUTE "][" ACUTE "b] [c]"},
	{"\xd8\x80" FLAG FLAG, 2,
	 "[\xd8\x80\xf0\x9f\x87\xac][\xf0\x9f\x87\xad][" FLAG "]"}, /* the next flag is not broken too */
	{FLAG "a", 1, "[\xf0\x9f\x87\xac][\xf0\x9f\x87\xad][a]"},

	/* No limit at all makes no sense and does no harm. */
	{"ab c", 0, "[a][b] [c]"},
};

START_TEST(cuts_are_where_they_should_be)
{
	size_t n = strlen(rows[_i].text);
	char *exact = malloc(n ? n : 1);

	memcpy(exact, rows[_i].text, n);
	ck_assert_int_eq(cut_text(exact, n, rows[_i].max, &c, &err), 0);
	ck_assert_str_eq(shown(), rows[_i].want);
	free(exact);
}
END_TEST

START_TEST(a_nul_is_a_character)
{
	ck_assert_int_eq(cut_text("a\0b c", 5, 3, &c, &err), 0);
	ck_assert_uint_eq(c.count, 2);
	ck_assert_uint_eq(c.pieces[0].len, 3);
}
END_TEST

START_TEST(released_is_empty)
{
	ck_assert_int_eq(cut_text("a b", 3, 1, &c, &err), 0);
	cut_release(&c);
	cut_release(&c);
	ck_assert(!c.pieces && c.count == 0 && cut_glue(&c, 0).len == 0);
}
END_TEST

static const struct {
	const char *text;
	size_t bytes, points;
	bool white, newline;
} graphemes[] = {
	{"ab", 1, 1, false, false},
	{" a", 1, 1, true, false},
	{"\t ", 1, 1, true, false},
	{"\n\n", 1, 1, true, true},
	{"\r\n\n", 2, 2, true, true},
	{"\r\r\n", 1, 1, true, true},
	{"\n\r", 1, 1, true, true},
	{"\n" ACUTE, 1, 1, true, true},
	{" " ACUTE "a", 3, 2, false, false},
	{"e" ACUTE ACUTE "a", 5, 3, false, false},
	{FLAG FLAG, 8, 2, false, false},
	{FAMILY "a", 11, 3, false, false},
	{HAND HAND, 7, 2, false, false},
	{NBSP "a", 2, 1, true, false},
	{"\xe2\x80\xa9"
	 "a",
	 3, 1, true, true},
	{"\xff"
	 "a",
	 1, 1, false, false},
	{"\xe2\x82", 2, 1, false, false},
};

START_TEST(graphemes_are_told_apart)
{
	struct grapheme g = grapheme_first(graphemes[_i].text, strlen(graphemes[_i].text));

	ck_assert_uint_eq(g.bytes, graphemes[_i].bytes);
	ck_assert_uint_eq(g.points, graphemes[_i].points);
	ck_assert_int_eq(grapheme_is_white(g), graphemes[_i].white);
	ck_assert_int_eq(grapheme_is_newline(g), graphemes[_i].newline);
}
END_TEST

/* Check writes a mark for each assertion: too slow for millions. */
#define hold(property) ((property) ? (void)0 : ck_abort_msg("does not hold: %s", #property))

/* By the properties alone: borders of graphemes are found in the whole text, from its beginning. */
static void check_properties(const char *text, size_t n, size_t max)
{
	size_t border = 0, longest = 0;

	buf_clear(&b);
	for (size_t i = 0; i <= c.count; i++) {
		struct span glue = cut_glue(&c, i);

		for (size_t at = 0; at < glue.len;) {
			struct grapheme g = grapheme_first(glue.ptr + at, glue.len - at);

			hold(grapheme_is_white(g));
			at += g.bytes;
		}
		buf_add(&b, glue.ptr, glue.len);
		if (i == c.count)
			break;
		hold(utf8_count(c.pieces[i].ptr, c.pieces[i].len) <= max);
		hold(c.pieces[i].len > 0 && utf8_valid(c.pieces[i].ptr, c.pieces[i].len));
		buf_add(&b, c.pieces[i].ptr, c.pieces[i].len);
		while (border < b.len) {
			struct grapheme g = grapheme_first(text + border, n - border);

			border += g.bytes;
			longest = g.points;
		}
		hold(border == b.len || longest > max);
	}
	hold(b.len == n && (n == 0 || memcmp(b.ptr, text, n) == 0));
}

START_TEST(properties_hold_for_made_up_text)
{
	static const char *const parts[] = {"a",
					    "b",
					    " ",
					    "\n",
					    ".",
					    "!",
					    ")",
					    "\"",
					    "\r\n",
					    ACUTE,
					    NBSP,
					    FLAG,
					    FAMILY,
					    HAND,
					    "\xf0\x9f\x87\xac",
					    "\xe2\x80\x8d",
					    "\xe1\x84\x92",
					    "\xe1\x85\xa1",
					    "\xd8\x80",
					    "\xe2\x80\xa6"};
	char text[256];

	for (int round = 0; round < 20000; round++) {
		size_t n = 0, max = 1 + (size_t)rand() % 12;

		for (int i = rand() % 30; i >= 0; i--) {
			const char *part = parts[(size_t)rand() % (sizeof parts / sizeof *parts)];

			memcpy(text + n, part, strlen(part));
			n += strlen(part);
		}
		ck_assert_int_eq(cut_text(text, n, max, &c, &err), 0);
		if (utf8_count(text, n) > max)
			check_properties(text, n, max);
		else
			ck_assert(c.count == 1 && c.pieces[0].ptr == text && c.pieces[0].len == n);
		cut_release(&c);
	}
}
END_TEST

/* Texts of LONG characters made of one unit: what might make a cutter look at the same place again and again. */
static const char *const units[] = {
	"Maakye, wo ho te s\xc9\x9bn? ",
	"a",
	"\n",
	" ",
	"a\n",
	"a ",
	".",
	"a. ",
	ACUTE,
	FLAG,
	FAMILY,
	"\xe2\x80\x8d",
	"A. b      ",
	"\xe1\x84\x92",
	"\xd8\x80",
};

static double cpu_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

START_TEST(time_is_linear)
{
	static const size_t limits[] = {1, 10, 1000, LONG - 1};
	size_t points = utf8_count(units[_i], strlen(units[_i]));
	struct buf text = BUF_INIT(SIZE_MAX / 4);

	for (size_t n = 0; n < LONG; n += points)
		buf_str_add(&text, units[_i]);
	for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
		double began = cpu_ms(), took;

		ck_assert_int_eq(cut_text(text.ptr, text.len, limits[i], &c, &err), 0);
		shown();
		took = cpu_ms() - began;
		if (getenv("CUT_TIMES"))
			printf("unit %2d limit %6zu: %7zu pieces, %6.2f ms\n", _i, limits[i], c.count, took);
		/* Ten milliseconds are usual; sanitizers take ten times as many, and a square of the length minutes. */
		ck_assert_double_lt(took, 2000);
		check_properties(text.ptr, text.len, limits[i]);
		cut_release(&c);
	}
	buf_release(&text);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("cut");
	TCase *t = tcase_create("all");
	SRunner *r;
	int failed;

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 60);
	tcase_add_loop_test(t, cuts_are_where_they_should_be, 0, sizeof rows / sizeof *rows);
	tcase_add_loop_test(t, graphemes_are_told_apart, 0, sizeof graphemes / sizeof *graphemes);
	tcase_add_test(t, a_nul_is_a_character);
	tcase_add_test(t, released_is_empty);
	tcase_add_test(t, properties_hold_for_made_up_text);
	tcase_add_loop_test(t, time_is_linear, 0, sizeof units / sizeof *units);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
