/* SPDX-License-Identifier: MIT
 *
 * Outcomes: the error object in all its forms, a result where little is known of the job, entries of the dead list. */
#include <check.h>
#include <stdio.h>
#include <string.h>

#include "base/digest.h"
#include "job/outcome.h"

static struct outcome o;
static struct job job;
static struct buf out;
static const struct outcome_facts refused = {.queue = "q", .worker = "w", .finished_at_ms = 6};

static void setup(void)
{
	outcome_init(&o);
	out = BUF_INIT(1000000);
}

static void teardown(void)
{
	outcome_release(&o);
	job_release(&job);
	buf_release(&out);
}

static int parse(const char *payload, size_t len)
{
	job_release(&job);
	buf_clear(&out);
	return job_parse(&job, payload, len, "q", 100000, &o.fault);
}

static struct json *read_out(void)
{
	struct json *j = json_parse(out.ptr, out.len);

	ck_assert_msg(!out.failed && json_scan(out.ptr, out.len, NULL, NULL, NULL) == JSON_OK, "%s", out.ptr);
	ck_assert_ptr_nonnull(j);
	return j;
}

/* --- The error object. -------------------------------------------------------------------------------------------------- */

START_TEST(an_error_has_all_eight_fields)
{
	fault_set(&o.fault, "RateLimitError", 429, "%s", "slow \"down\"\n");
	buf_str_add(&o.fault.code, "E1");
	buf_str_add(&o.fault.details, "[{\"loc\":1}]");
	buf_str_add(&o.fault.activity_id, "act-1");
	o.fault.retryable = true;
	o.fault.service = "khaya";
	fault_json(&o.fault, &out);
	ck_assert_str_eq(
		out.ptr,
		"{\"type\":\"RateLimitError\",\"message\":\"slow \\\"down\\\"\\n\",\"status_code\":429,\"code\":\"E1\",\"details\":[{\"loc\":1}],"
		"\"activity_id\":\"act-1\",\"retryable\":true,\"service\":\"khaya\"}");
}
END_TEST

START_TEST(a_new_fault_forgets_the_one_before)
{
	buf_str_add(&o.fault.code, "E1");
	buf_str_add(&o.fault.details, "[1]");
	buf_str_add(&o.fault.activity_id, "act-1");
	o.fault.retryable = true;
	o.fault.service = "khaya"; /* which stays */
	fault_set(&o.fault, "APIError", 500, "a longer message than the next");
	fault_set(&o.fault, "InvalidJobError", 0, "%d", 7);
	fault_json(&o.fault, &out);
	ck_assert_str_eq(
		out.ptr,
		"{\"type\":\"InvalidJobError\",\"message\":\"7\",\"status_code\":0,\"code\":null,\"details\":[],\"activity_id\":null,\"retryable\":false,"
		"\"service\":\"khaya\"}");
}
END_TEST

START_TEST(what_a_server_says_too_long_or_wrong_stays_json)
{
	struct json *j;

	fault_set(&o.fault, "APIError", 500, "%s", "\xff\xfe");
	while (!o.fault.details.failed)
		buf_lit(&o.fault.details, "[\"0123456789\",");
	buf_lit(&o.fault.code, "\x01\"\xff");
	fault_json(&o.fault, &out);
	j = read_out();
	ck_assert_uint_eq(json_count(j), 8);
	ck_assert_str_eq(json_text(json_get(j, "message")), "\xef\xbf\xbd\xef\xbf\xbd");
	ck_assert_str_eq(json_text(json_get(j, "code")), "\x01\"\xef\xbf\xbd");
	ck_assert_uint_eq(json_count(json_get(j, "details")), 0);
	json_free(j);
}
END_TEST

START_TEST(a_message_has_at_most_16_kib)
{
	static const char *const units[] = {"x", "\xc3\xa9", "\xe2\x82\xac", "\xf0\x9f\x98\x80"};
	static char text[200001];

	for (size_t u = 0; u < 4; u++) {
		size_t unit = strlen(units[u]), n = 0;
		struct json *j;

		/* On both sides of the bound, and far beyond what a fault holds. */
		for (size_t want = FAULT_MESSAGE_MAX - 2; want < 200000;
		     want = want < FAULT_MESSAGE_MAX + 3 ? want + 1 : want * 3) {
			for (n = 0; n + unit <= want; n += unit)
				memcpy(text + n, units[u], unit);
			text[n] = '\0';
			fault_set(&o.fault, "APIError", 500, "%s", text);
			buf_clear(&out);
			fault_json(&o.fault, &out);
			j = read_out();
			ck_assert_uint_eq(strlen(json_text(json_get(j, "message"))),
					  n <= FAULT_MESSAGE_MAX ? n : FAULT_MESSAGE_MAX - FAULT_MESSAGE_MAX % unit);
			ck_assert_ptr_null(strstr(json_text(json_get(j, "message")), "\xef\xbf\xbd"));
			json_free(j);
		}
	}
}
END_TEST

/* --- Results. ----------------------------------------------------------------------------------------------------------- */

static const struct {
	const char *payload, *type, *trace; /* as they stand in the result, trace NULL: not at all */
} odd[] = {
	{"{\"id\":\"a\"}", "null", NULL},
	{"{\"id\":\"a\",\"type\":7,\"traceparent\":8}", "null", NULL},
	{"{\"id\":\"a\",\"type\":\"da\\u006ece\",\"traceparent\":\"00-\\\"\"}", "\"dance\"", "\"00-\\\"\""},
	{"{\"id\":\"a\",\"type\":\"\\u0074ranslate\",\"text\":5}", "\"translate\"", NULL},
	{"{\"id\":\"a\",\"type\":\"synthesize\",\"text\":\"\xff\",\"traceparent\":\"\xfe\"}", "\"synthesize\"", NULL},
	{"{\"id\":\"a\",\"type\":\"\xff\",\"traceparent\":\"00\"}", "null", "\"00\""},
};

START_TEST(a_refused_job_has_its_result)
{
	char expected[1000];
	struct buf error = BUF_INIT(10000);

	ck_assert_int_eq(parse(odd[_i].payload, strlen(odd[_i].payload)), -1);
	outcome_result_json(&job, &o, &refused, &out);
	json_free(read_out());
	fault_json(&o.fault, &error);
	snprintf(
		expected, sizeof expected,
		"{\"id\":\"a\",\"queue\":\"q\",\"type\":%s,\"status\":\"failed\",\"error\":%s,\"attempts\":0,\"enqueued_at_ms\":null,\"started_at_ms\":null,"
		"\"finished_at_ms\":6,\"api_ms\":0,\"cached\":false,\"worker\":\"w\",\"billed\":{}%s%s}",
		odd[_i].type, error.ptr, odd[_i].trace ? ",\"traceparent\":" : "", odd[_i].trace ? odd[_i].trace : "");
	ck_assert_str_eq(out.ptr, expected);
	buf_release(&error);
}
END_TEST

START_TEST(times_have_three_decimals_at_most)
{
	static const struct {
		double ms;
		const char *text;
	} cases[] = {{0, "0"},		{0.8, "0.8"},	{1.0004, "1"},
		     {1.0006, "1.001"}, {12.5, "12.5"}, {123456.789, "123456.789"},
		     {0.05, "0.05"}};
	const char *at;

	parse("{\"id\":\"a\",\"type\":\"translate\"}", 29);
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct outcome_facts facts = refused;

		facts.api_ms = cases[i].ms;
		buf_clear(&out);
		outcome_result_json(&job, &o, &facts, &out);
		at = strstr(out.ptr, "\"api_ms\":") + 9;
		ck_assert_int_eq(strncmp(at, cases[i].text, strlen(cases[i].text)), 0);
		ck_assert_int_eq(at[strlen(cases[i].text)], ',');
	}
}
END_TEST

START_TEST(cleared_means_new)
{
	struct outcome fresh;

	o.kind = OUTCOME_SUCCEEDED;
	o.retry_after_ms = 5;
	strcpy(o.audio_type, "audio/wav");
	buf_str_add(&o.result, "{}");
	buf_str_add(&o.audio, "RIFF");
	fault_set(&o.fault, "APIError", 500, "down");
	buf_str_add(&o.fault.code, "c");
	buf_str_add(&o.fault.details, "[1]");
	buf_str_add(&o.fault.activity_id, "i");
	o.fault.retryable = true;
	o.fault.service = "khaya";
	while (o.result.cap < 100000)
		buf_lit(&o.result, "0123456789");
	outcome_clear(&o);
	outcome_init(&fresh);
	ck_assert_int_eq(o.kind, fresh.kind);
	ck_assert_int_eq(o.retry_after_ms, fresh.retry_after_ms);
	ck_assert_str_eq(o.audio_type, "");
	ck_assert_uint_eq(o.result.len + o.audio.len + o.fault.message.len + o.fault.code.len + o.fault.details.len +
				  o.fault.activity_id.len,
			  0);
	ck_assert_uint_lt(o.result.cap, 100000); /* an idle worker does not sit on its largest answer */
	ck_assert(!o.fault.retryable);
	ck_assert_ptr_null(o.fault.service);
	outcome_release(&fresh);
}
END_TEST

/* --- The dead list. ----------------------------------------------------------------------------------------------------- */

/* job: as it stands in the entry; NULL: job_base64 stands there. */
static const struct {
	const char *payload;
	size_t len;
	const char *job;
} dead[] = {
#define PAYLOAD(text) text, sizeof(text) - 1
	{PAYLOAD("{\"id\":\"a\",\"n\":1.0e0, \"u\":\"\\u00e9\"}"), "{\"id\":\"a\",\"n\":1.0e0, \"u\":\"\\u00e9\"}"},
	{PAYLOAD(" [1]\n"), " [1]\n"},
	{PAYLOAD("not \"json\"\n\xc3\xa9"), "\"not \\\"json\\\"\\n\xc3\xa9\""},
	{PAYLOAD(""), "\"\""},
	{PAYLOAD("{\"id\":\"a\"} x"), "\"{\\\"id\\\":\\\"a\\\"} x\""},
	{PAYLOAD("a\0b"), "\"a\\u0000b\""},
	{PAYLOAD("\xff\x00"), NULL},
	{PAYLOAD("{\"id\":\"a\",\"t\":\"\xed\xa0\x80\"}"), NULL},
};

START_TEST(the_payload_is_kept_as_it_can_be)
{
	struct buf expected = BUF_INIT(10000);

	ck_assert_int_eq(parse(dead[_i].payload, dead[_i].len), -1);
	outcome_dead_json(&job, &o.fault, 12345, SIZE_MAX, &out);
	json_free(read_out());
	if (dead[_i].job) {
		buf_printf(&expected, "{\"job\":%s", dead[_i].job);
	} else {
		buf_lit(&expected, "{\"job_base64\":\"");
		base64_encode(&expected, dead[_i].payload, dead[_i].len);
		buf_char(&expected, '"');
	}
	buf_lit(&expected, ",\"error\":");
	fault_json(&o.fault, &expected);
	buf_lit(&expected, ",\"died_at_ms\":12345}");
	ck_assert_str_eq(out.ptr, expected.ptr);
	buf_release(&expected);
}
END_TEST

/* What lies too deep was never checked: broken JSON in it must not break the entry. */
START_TEST(a_deep_payload_is_kept_as_text)
{
	struct buf payload = BUF_INIT(10000);
	struct json *j;

	buf_lit(&payload, "{\"id\":\"a\",\"x\":");
	for (int i = 0; i < 300; i++)
		buf_char(&payload, '[');
	buf_lit(&payload, "nonsense:,");
	for (int i = 0; i < 300; i++)
		buf_char(&payload, ']');
	buf_char(&payload, '}');
	ck_assert_int_eq(parse(payload.ptr, payload.len), -1);
	ck_assert_str_eq(job.id, "a");
	outcome_dead_json(&job, &o.fault, 1, SIZE_MAX, &out);
	j = read_out();
	ck_assert_str_eq(json_text(json_get(j, "job")), payload.ptr);
	json_free(j);
	payload.ptr[payload.len - 350] = (char)0xff;
	ck_assert_int_eq(parse(payload.ptr, payload.len), -1);
	outcome_dead_json(&job, &o.fault, 1, SIZE_MAX, &out);
	j = read_out();
	ck_assert_ptr_nonnull(json_text(json_get(j, "job_base64")));
	ck_assert_ptr_null(json_get(j, "job"));
	json_free(j);
	/* One that no dead list could keep. */
	buf_clear(&out);
	outcome_dead_json(&job, &o.fault, 1, payload.len - 1, &out);
	j = read_out();
	ck_assert_int_eq(json_type(json_get(j, "job")), JSON_NULL);
	ck_assert_ptr_nonnull(json_get(j, "job_bytes"));
	json_free(j);
	buf_release(&payload);
}
END_TEST

/* An entry is one level deeper than its job, and whoever reads it bounds the depth as we do. */
START_TEST(an_entry_is_not_too_deep_to_be_read)
{
	struct buf payload = BUF_INIT(10000);
	struct json *j;

	for (int depth = JSON_DEPTH_MAX - 1; depth <= JSON_DEPTH_MAX; depth++) {
		buf_clear(&payload);
		buf_lit(&payload, "{\"id\":\"a\",\"type\":\"translate\",\"x\":");
		for (int i = 1; i < depth; i++)
			buf_char(&payload, '[');
		for (int i = 1; i < depth; i++)
			buf_char(&payload, ']');
		buf_char(&payload, '}');
		ck_assert_int_eq(parse(payload.ptr, payload.len), 0);
		outcome_dead_json(&job, &o.fault, 1, SIZE_MAX, &out);
		j = read_out();
		if (depth < JSON_DEPTH_MAX)
			ck_assert_int_eq(json_type(json_get(j, "job")), JSON_OBJECT);
		else
			ck_assert_str_eq(json_text(json_get(j, "job")), payload.ptr);
		json_free(j);
	}
	buf_release(&payload);
}
END_TEST

/* --- Delays. ------------------------------------------------------------------------------------------------------------ */

START_TEST(what_the_server_asked_for_is_never_undercut)
{
	for (int64_t asked = 0; asked < 5000000; asked += 777) {
		int64_t bounded = asked < 3600000 ? asked : 3600000;

		for (int i = 0; i < 4; i++) {
			int64_t ms = outcome_retry_delay_ms(1 + i * 30, asked, i / 4.0);

			ck_assert_int_ge(ms, bounded);
			ck_assert_int_le(ms, bounded + (bounded / 10 < 5000 ? bounded / 10 : 5000));
		}
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("outcome");
	TCase *t = tcase_create("all");
	SRunner *r;
	int failed;

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, an_error_has_all_eight_fields);
	tcase_add_test(t, a_new_fault_forgets_the_one_before);
	tcase_add_test(t, what_a_server_says_too_long_or_wrong_stays_json);
	tcase_add_test(t, a_message_has_at_most_16_kib);
	tcase_add_loop_test(t, a_refused_job_has_its_result, 0, sizeof odd / sizeof *odd);
	tcase_add_test(t, times_have_three_decimals_at_most);
	tcase_add_test(t, cleared_means_new);
	tcase_add_loop_test(t, the_payload_is_kept_as_it_can_be, 0, sizeof dead / sizeof *dead);
	tcase_add_test(t, a_deep_payload_is_kept_as_text);
	tcase_add_test(t, an_entry_is_not_too_deep_to_be_read);
	tcase_add_test(t, what_the_server_asked_for_is_never_undercut);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
