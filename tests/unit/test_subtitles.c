/* SPDX-License-Identifier: MIT
 *
 * Subtitles from timings: which words stand together, when, and that no input makes a file that players refuse. */
#include <check.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "cli/subtitles.h"

#define TEN "abcdefghi " /* a word of nine and a space */
#define ACUTE "e\xcc\x81"

static struct buf out, in;
static struct error err;

static void setup(void)
{
	out = in = BUF_INIT(1 << 24);
	err = (struct error){0};
	srand(1);
}

static void teardown(void)
{
	buf_release(&out);
	buf_release(&in);
}

static int subtitles(const char *text, enum subtitles_format format)
{
	struct json *j = json_parse(text, strlen(text));
	int rc;

	ck_assert_msg(j, "no JSON: %s", text);
	buf_clear(&out);
	rc = subtitles_write(j, format, &out, &err);
	json_free(j);
	return rc;
}

/* The entries alone, in the order text, start, end. */
static const char *segments(const char *list)
{
	buf_clear(&in);
	buf_printf(&in, "{\"unit\":\"seconds\",\"granularity\":\"segment\",\"words\":[],\"segments\":[%s]}", list);
	return buf_cstr(&in);
}

static const char *words(const char *list)
{
	buf_clear(&in);
	buf_printf(&in, "{\"unit\":\"seconds\",\"granularity\":\"word\",\"words\":[%s],\"segments\":[]}", list);
	return buf_cstr(&in);
}

START_TEST(segments_as_srt)
{
	ck_assert_int_eq(subtitles(segments("{\"text\":\" Maakye.\",\"start\":0,\"end\":1.25},"
					    "{\"text\":\"Wo ho te s\xc9\x9bn?\",\"start\":3661.5,\"end\":3663}"),
				   SUBTITLES_SRT),
			 0);
	ck_assert_str_eq(out.ptr, "1\n00:00:00,000 --> 00:00:01,250\nMaakye.\n\n"
				  "2\n01:01:01,500 --> 01:01:03,000\nWo ho te s\xc9\x9bn?\n");
}
END_TEST

START_TEST(segments_as_webvtt)
{
	ck_assert_int_eq(subtitles(segments("{\"text\":\"a < b & c --> d\",\"start\":0,\"end\":1.25},"
					    "{\"text\":\"b\",\"start\":2,\"end\":3}"),
				   SUBTITLES_VTT),
			 0);
	ck_assert_str_eq(out.ptr, "WEBVTT\n\n00:00:00.000 --> 00:00:01.250\na &lt; b &amp; c --&gt; d\n\n"
				  "00:00:02.000 --> 00:00:03.000\nb\n");
}
END_TEST

START_TEST(srt_text_holds_no_arrow_of_times)
{
	ck_assert_int_eq(subtitles(segments("{\"text\":\"a --> b <i>&\",\"start\":0,\"end\":1}"), SUBTITLES_SRT), 0);
	ck_assert_str_eq(out.ptr, "1\n00:00:00,000 --> 00:00:01,000\na \xe2\x86\x92 b <i>&\n");
	ck_assert_int_eq(subtitles(segments("{\"text\":\"--->--\",\"start\":0,\"end\":1}"), SUBTITLES_SRT), 0);
	ck_assert_str_eq(out.ptr, "1\n00:00:00,000 --> 00:00:01,000\n-\xe2\x86\x92--\n");
}
END_TEST

START_TEST(it_appends)
{
	const char *text = words("{\"word\":\"a\",\"start\":0,\"end\":1}");
	struct json *j = json_parse(text, strlen(text));

	buf_str_add(&out, "x\n");
	ck_assert_int_eq(subtitles_write(j, SUBTITLES_VTT, &out, &err), 0);
	ck_assert_str_eq(out.ptr, "x\nWEBVTT\n\n00:00:00.000 --> 00:00:01.000\na\n");
	json_free(j);
}
END_TEST

static const struct {
	const char *start, *end, *want;
} times[] = {
	{"0", "59.9996", "00:00:00,000 --> 00:01:00,000"},
	{"0.0005", "0.0015", "00:00:00,001 --> 00:00:00,002"},
	{"0.0004999", "1.0005", "00:00:00,000 --> 00:00:01,001"},
	{"0.5005", "1.9995", "00:00:00,501 --> 00:00:02,000"},
	{"0.29", "0.57", "00:00:00,290 --> 00:00:00,570"},
	{"1.001", "4.35", "00:00:01,001 --> 00:00:04,350"},
	{"3599.9995", "3600.0004", "01:00:00,000 --> 01:00:00,001"},
	{"-3", "1", "00:00:00,000 --> 00:00:01,000"},
	{"-3", "-2", "00:00:00,000 --> 00:00:00,001"},
	{"5", "5", "00:00:05,000 --> 00:00:05,001"},
	{"5", "4", "00:00:05,000 --> 00:00:05,001"},
	{"5", "null", "00:00:05,000 --> 00:00:05,001"},
	{"null", "2", "00:00:00,000 --> 00:00:02,000"},
	{"\"1\"", "2", "00:00:00,000 --> 00:00:02,000"},
	{"1e300", "1e999", "100:00:00,000 --> 100:00:00,001"},
	{"359999.9999", "1e9", "100:00:00,000 --> 100:00:00,001"},
	{"359999.999", "1e9", "99:59:59,999 --> 100:00:00,000"},
};

START_TEST(times_are_rounded_and_kept_in_bounds)
{
	char list[200], want[100];

	snprintf(list, sizeof list, "{\"text\":\"a\",\"start\":%s,\"end\":%s}", times[_i].start, times[_i].end);
	snprintf(want, sizeof want, "1\n%s\na\n", times[_i].want);
	ck_assert_int_eq(subtitles(segments(list), SUBTITLES_SRT), 0);
	ck_assert_str_eq(out.ptr, want);
}
END_TEST

START_TEST(an_end_before_its_start_is_the_start)
{
	ck_assert_int_eq(subtitles(segments("{\"text\":\"a\",\"start\":5,\"end\":1},{\"text\":\"b\",\"end\":7}"),
				   SUBTITLES_SRT),
			 0);
	ck_assert_str_eq(out.ptr, "1\n00:00:05,000 --> 00:00:06,000\na\n\n2\n00:00:06,000 --> 00:00:07,000\nb\n");
}
END_TEST

START_TEST(the_word_that_ends_last_ends_the_cue)
{
	ck_assert_int_eq(
		subtitles(words("{\"word\":\"a\",\"start\":0,\"end\":3},{\"word\":\"b\",\"start\":1,\"end\":2}"),
			  SUBTITLES_SRT),
		0);
	ck_assert_str_eq(out.ptr, "1\n00:00:00,000 --> 00:00:03,000\na b\n");
}
END_TEST

START_TEST(a_missing_start_is_the_end_before)
{
	ck_assert_int_eq(
		subtitles(segments(
				  "{\"text\":\"a\",\"start\":1,\"end\":2},{\"text\":\"b\",\"end\":3},{\"text\":\"c\"}"),
			  SUBTITLES_SRT),
		0);
	ck_assert_str_eq(out.ptr, "1\n00:00:01,000 --> 00:00:02,000\na\n\n2\n00:00:02,000 --> 00:00:03,000\nb\n\n"
				  "3\n00:00:03,000 --> 00:00:03,001\nc\n");
}
END_TEST

START_TEST(out_of_order_is_sorted)
{
	ck_assert_int_eq(
		subtitles(segments("{\"text\":\"c\",\"start\":5,\"end\":6},{\"text\":\"a\",\"start\":1,\"end\":2},"
				   "{\"text\":\"b\",\"start\":3,\"end\":4}"),
			  SUBTITLES_SRT),
		0);
	ck_assert_str_eq(out.ptr, "1\n00:00:01,000 --> 00:00:02,000\na\n\n2\n00:00:03,000 --> 00:00:04,000\nb\n\n"
				  "3\n00:00:05,000 --> 00:00:06,000\nc\n");
}
END_TEST

START_TEST(overlaps_are_cut)
{
	ck_assert_int_eq(
		subtitles(segments("{\"text\":\"a\",\"start\":1,\"end\":9},{\"text\":\"b\",\"start\":3,\"end\":4}"),
			  SUBTITLES_SRT),
		0);
	ck_assert_str_eq(out.ptr, "1\n00:00:01,000 --> 00:00:03,000\na\n\n2\n00:00:03,000 --> 00:00:04,000\nb\n");
	ck_assert_int_eq(
		subtitles(segments("{\"text\":\"a\",\"start\":0,\"end\":4},{\"text\":\"b\",\"start\":0,\"end\":2}"),
			  SUBTITLES_SRT),
		0);
	ck_assert_str_eq(out.ptr, "1\n00:00:00,000 --> 00:00:02,000\na\n\n2\n00:00:02,000 --> 00:00:02,001\nb\n");
	ck_assert_int_eq(subtitles(segments("{\"text\":\"a\"},{\"text\":\"b\"},{\"text\":\"c\"}"), SUBTITLES_SRT), 0);
	ck_assert_str_eq(out.ptr, "1\n00:00:00,000 --> 00:00:00,001\na\n\n2\n00:00:00,001 --> 00:00:00,002\nb\n\n"
				  "3\n00:00:00,002 --> 00:00:00,003\nc\n");
}
END_TEST

START_TEST(lines_are_wrapped)
{
	/* 42 characters, accents not counted, fill a line; one more begins the next. */
	ck_assert_int_eq(subtitles(segments("{\"text\":\"" TEN TEN TEN TEN ACUTE ACUTE " x\",\"start\":0,\"end\":1}"),
				   SUBTITLES_SRT),
			 0);
	ck_assert_str_eq(out.ptr, "1\n00:00:00,000 --> 00:00:01,000\n" TEN TEN TEN TEN ACUTE ACUTE "\nx\n");
	ck_assert_int_eq(subtitles(segments("{\"text\":\"" TEN TEN TEN TEN "xyz\",\"start\":0,\"end\":1}"),
				   SUBTITLES_SRT),
			 0);
	ck_assert_str_eq(out.ptr, "1\n00:00:00,000 --> 00:00:01,000\nabcdefghi abcdefghi abcdefghi abcdefghi\nxyz\n");
}
END_TEST

START_TEST(white_space_is_laid_anew)
{
	ck_assert_int_eq(
		subtitles(
			segments(
				"{\"text\":\" \\n\\na\\n\\n\\r\\nb\\t \\u00a0c\\u2028d\\u001b\\u007fe\\n\",\"start\":0,\"end\":1},"
				"{\"text\":\" \\n \",\"start\":1,\"end\":2},{\"text\":\"\",\"start\":2,\"end\":3}"),
			SUBTITLES_SRT),
		0);
	ck_assert_str_eq(out.ptr, "1\n00:00:00,000 --> 00:00:01,000\na b c d e\n");
}
END_TEST

START_TEST(a_long_segment_becomes_several_cues)
{
	/* Four words a line, eight a cue: 16 words of nine characters and one of three over 147 s, a second for each. */
	ck_assert_int_eq(subtitles(segments("{\"text\":\"" TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN TEN
						    TEN "xyz\",\"start\":10,\"end\":157}"),
				   SUBTITLES_SRT),
			 0);
	ck_assert_str_eq(
		out.ptr,
		"1\n00:00:10,000 --> 00:01:22,000\nabcdefghi abcdefghi abcdefghi abcdefghi\nabcdefghi abcdefghi "
		"abcdefghi abcdefghi\n\n"
		"2\n00:01:22,000 --> 00:02:34,000\nabcdefghi abcdefghi abcdefghi abcdefghi\nabcdefghi abcdefghi "
		"abcdefghi abcdefghi\n\n"
		"3\n00:02:34,000 --> 00:02:37,000\nxyz\n");
}
END_TEST

START_TEST(a_word_longer_than_a_line_is_cut)
{
	buf_clear(&in);
	buf_lit(&in, "{\"segments\":[{\"text\":\"a ");
	for (int i = 0; i < 100; i++)
		buf_lit(&in, ACUTE);
	buf_lit(&in, " b\",\"start\":0,\"end\":102}]}");
	ck_assert_int_eq(subtitles(in.ptr, SUBTITLES_SRT), 0);
	buf_clear(&in);
	buf_lit(&in, "1\n00:00:00,000 --> 00:00:43,000\na\n");
	for (int i = 0; i < 42; i++)
		buf_lit(&in, ACUTE);
	buf_lit(&in, "\n\n2\n00:00:43,000 --> 00:01:42,000\n");
	for (int i = 0; i < 42; i++)
		buf_lit(&in, ACUTE);
	buf_lit(&in, "\n");
	for (int i = 0; i < 16; i++)
		buf_lit(&in, ACUTE);
	buf_lit(&in, " b\n");
	ck_assert_str_eq(out.ptr, in.ptr);
}
END_TEST

START_TEST(words_are_put_together)
{
	ck_assert_int_eq(
		subtitles(
			words("{\"word\":\"Wo\",\"start\":0.1,\"end\":0.3},{\"word\":\" ho \",\"start\":0.3,\"end\":0.5},"
			      "{\"word\":\"te\",\"start\":1.3,\"end\":1.5},{\"word\":\"s\xc9\x9bn?\",\"start\":2.301,\"end\":2.5}"),
			SUBTITLES_SRT),
		0);
	/* 0.8 s are no pause yet, 0.801 s are. */
	ck_assert_str_eq(
		out.ptr,
		"1\n00:00:00,100 --> 00:00:01,500\nWo ho te\n\n2\n00:00:02,301 --> 00:00:02,500\ns\xc9\x9bn?\n");
}
END_TEST

START_TEST(a_cue_of_words_lasts_seven_seconds)
{
	ck_assert_int_eq(
		subtitles(words("{\"word\":\"a\",\"start\":1,\"end\":4},{\"word\":\"b\",\"start\":4,\"end\":8},"
				"{\"word\":\"c\",\"start\":8,\"end\":12},{\"word\":\"d\",\"start\":12,\"end\":15.001},"
				"{\"word\":\"e\",\"start\":16,\"end\":30}"),
			  SUBTITLES_SRT),
		0);
	ck_assert_str_eq(out.ptr, "1\n00:00:01,000 --> 00:00:08,000\na b\n\n2\n00:00:08,000 --> 00:00:12,000\nc\n\n"
				  "3\n00:00:12,000 --> 00:00:15,001\nd\n\n4\n00:00:16,000 --> 00:00:30,000\ne\n");
}
END_TEST

START_TEST(a_sentence_ends_a_cue_that_is_long_enough)
{
	ck_assert_int_eq(
		subtitles(
			words("{\"word\":\"Yoo.\",\"start\":0,\"end\":1},{\"word\":\"Me\",\"start\":1,\"end\":1.5},"
			      "{\"word\":\"ho.\xe2\x80\x9d\",\"start\":1.5,\"end\":2},{\"word\":\"Na\",\"start\":2,\"end\":3}"),
			SUBTITLES_SRT),
		0);
	ck_assert_str_eq(out.ptr, "1\n00:00:00,000 --> 00:00:02,000\nYoo. Me ho.\xe2\x80\x9d\n\n"
				  "2\n00:00:02,000 --> 00:00:03,000\nNa\n");
}
END_TEST

START_TEST(words_fill_two_lines)
{
	buf_clear(&in);
	buf_lit(&in, "{\"words\":[");
	for (int i = 0; i < 9; i++)
		buf_printf(&in, "%s{\"word\":\"abcdefghi\",\"start\":%d.%d,\"end\":%d.%d}", i ? "," : "", i / 2,
			   i % 2 * 5, (i + 1) / 2, (i + 1) % 2 * 5);
	buf_lit(&in, "]}");
	ck_assert_int_eq(subtitles(in.ptr, SUBTITLES_SRT), 0);
	ck_assert_str_eq(out.ptr,
			 "1\n00:00:00,000 --> 00:00:04,000\nabcdefghi abcdefghi abcdefghi abcdefghi\n"
			 "abcdefghi abcdefghi abcdefghi abcdefghi\n\n2\n00:00:04,000 --> 00:00:04,500\nabcdefghi\n");
}
END_TEST

START_TEST(segments_come_before_words)
{
	ck_assert_int_eq(
		subtitles(
			"{\"words\":[{\"word\":\"w\",\"start\":0,\"end\":1}],\"segments\":[{\"text\":\"s\",\"start\":0,\"end\":1}]}",
			SUBTITLES_SRT),
		0);
	ck_assert(strstr(out.ptr, "\ns\n"));
	ck_assert_int_eq(
		subtitles(
			"{\"words\":[{\"word\":\"w\",\"start\":0,\"end\":1}],\"segments\":[{\"text\":\" \",\"start\":0,\"end\":1}]}",
			SUBTITLES_SRT),
		0);
	ck_assert_str_eq(out.ptr, "1\n00:00:00,000 --> 00:00:01,000\nw\n");
}
END_TEST

static const struct {
	const char *timings, *says;
} nothing[] = {
	{"null", "no timings"},
	{"[]", "no timings"},
	{"\"x\"", "no timings"},
	{"{}", "hold no words"},
	{"{\"words\":null,\"segments\":7}", "hold no words"},
	{"{\"words\":[null,1,[],{}],\"segments\":[{\"text\":7},{\"word\":\"a\"}]}", "hold no words"},
	{"{\"words\":[{\"word\":\"\\n\",\"start\":0,\"end\":1}]}", "hold no words"},
	{"{\"unit\":\"frames\",\"words\":[{\"word\":\"a\",\"start\":0,\"end\":1}]}", "in frames"},
};

START_TEST(nothing_to_show_is_said)
{
	ck_assert_int_eq(subtitles(nothing[_i].timings, SUBTITLES_VTT), -1);
	ck_assert_int_eq(err.code, ERR_INVALID);
	ck_assert_msg(strstr(err.msg, nothing[_i].says), "%s", err.msg);
	ck_assert_uint_eq(out.len, 0);
	ck_assert_int_eq(subtitles_write(NULL, SUBTITLES_SRT, &out, &err), -1);
}
END_TEST

START_TEST(the_bound_of_the_buffer_is_kept)
{
	out.max = 20;
	ck_assert_int_eq(subtitles(segments("{\"text\":\"a\",\"start\":0,\"end\":1}"), SUBTITLES_SRT), -1);
	ck_assert_int_eq(err.code, ERR_MEMORY);
}
END_TEST

/* Times and texts at random: what must hold for every file. */
START_TEST(cues_never_overlap)
{
	for (int round = 0; round < 2000; round++) {
		int n = 1 + rand() % 30, number = 0;
		int64_t before = 0;

		buf_clear(&in);
		buf_printf(&in, "{\"%s\":[", round % 2 ? "words" : "segments");
		for (int i = 0; i < n; i++) {
			buf_printf(&in, "%s{\"%s\":\"", i ? "," : "", round % 2 ? "word" : "text");
			for (int k = rand() % (round % 2 ? 2 : 20); k >= 0; k--)
				buf_str_add(&in, rand() % 9 ? "word " : "End. ");
			buf_printf(&in, "\",\"start\":%d.%04d,\"end\":%d.%04d}", rand() % 12 - 1, rand() % 10000,
				   rand() % 12, rand() % 10000);
		}
		buf_lit(&in, "]}");
		ck_assert_int_eq(subtitles(in.ptr, SUBTITLES_SRT), 0);
		for (char *at = out.ptr; at && *at;) {
			int got, h[2], m[2], s[2], ms[2], used = 0;
			int64_t start, end;

			if (sscanf(at, "%d\n%d:%d:%d,%d --> %d:%d:%d,%d\n%n", &got, h, m, s, ms, h + 1, m + 1, s + 1,
				   ms + 1, &used) != 9)
				ck_abort_msg("%s", at);
			start = ((h[0] * 60 + m[0]) * 60 + s[0]) * 1000 + ms[0];
			end = ((h[1] * 60 + m[1]) * 60 + s[1]) * 1000 + ms[1];
			if (got != ++number || start < before || end <= start)
				ck_abort_msg("cue %d of %s", got, out.ptr);
			before = end;
			at = strstr(at + used, "\n\n");
			at = at ? at + 2 : NULL;
		}
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("subtitles");
	TCase *t = tcase_create("all");
	SRunner *r;
	int failed;

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 60);
	tcase_add_test(t, segments_as_srt);
	tcase_add_test(t, segments_as_webvtt);
	tcase_add_test(t, srt_text_holds_no_arrow_of_times);
	tcase_add_test(t, it_appends);
	tcase_add_loop_test(t, times_are_rounded_and_kept_in_bounds, 0, sizeof times / sizeof *times);
	tcase_add_test(t, an_end_before_its_start_is_the_start);
	tcase_add_test(t, the_word_that_ends_last_ends_the_cue);
	tcase_add_test(t, a_missing_start_is_the_end_before);
	tcase_add_test(t, out_of_order_is_sorted);
	tcase_add_test(t, overlaps_are_cut);
	tcase_add_test(t, lines_are_wrapped);
	tcase_add_test(t, white_space_is_laid_anew);
	tcase_add_test(t, a_long_segment_becomes_several_cues);
	tcase_add_test(t, a_word_longer_than_a_line_is_cut);
	tcase_add_test(t, words_are_put_together);
	tcase_add_test(t, a_cue_of_words_lasts_seven_seconds);
	tcase_add_test(t, a_sentence_ends_a_cue_that_is_long_enough);
	tcase_add_test(t, words_fill_two_lines);
	tcase_add_test(t, segments_come_before_words);
	tcase_add_loop_test(t, nothing_to_show_is_said, 0, sizeof nothing / sizeof *nothing);
	tcase_add_test(t, the_bound_of_the_buffer_is_kept);
	tcase_add_test(t, cues_never_overlap);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
