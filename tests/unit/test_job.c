/* SPDX-License-Identifier: MIT
 *
 * Reading jobs, putting them back, results and retry delays. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "job/outcome.h"

static struct fault fault;
static struct job job;

static void setup(void)
{
	fault_init(&fault);
}

static void teardown(void)
{
	fault_release(&fault);
	job_release(&job);
}

static int parse(const char *payload)
{
	job_release(&job);
	return job_parse(&job, payload, strlen(payload), "translate", 100000, &fault);
}

START_TEST(a_job_is_read)
{
	ck_assert_int_eq(parse("{\"id\":\"a\",\"text\":\"x\\u00e9\",\"timeout_ms\":5e1,\"unknown\":[1],\"speaker\":7,\"reply\":\"r\"}"), 0);
	ck_assert_str_eq(job.id, "a");
	ck_assert_str_eq(job.reply, "r");
	ck_assert_str_eq(job.type->name, "translate");
	ck_assert_str_eq(job_string(&job, JOB_TEXT, "?"), "x\xc3\xa9");
	ck_assert_str_eq(job_string(&job, JOB_LANGUAGE_PAIR, "none"), "none");
	ck_assert_int_eq(job_number(&job, JOB_TIMEOUT_MS, 1), 50);
	ck_assert_int_eq(job_number(&job, JOB_MAX_ATTEMPTS, 9), 9);
}
END_TEST

START_TEST(the_last_of_two_counts_and_null_is_absent)
{
	ck_assert_int_eq(parse("{\"id\":\"a\",\"text\":5,\"text\":\"ok\",\"max_attempts\":3,\"max_attempts\":null,\"\\u0069d\":\"b\"}"), 0);
	ck_assert_str_eq(job.id, "b");
	ck_assert(!job_has(&job, JOB_MAX_ATTEMPTS));
}
END_TEST

START_TEST(a_bad_number_does_not_shape_the_result)
{
	ck_assert_int_eq(parse("{\"id\":\"a\",\"text\":\"x\",\"result_ttl_s\":0}"), -1);
	ck_assert_str_eq(fault.type, "InvalidJobError");
	ck_assert_int_eq(job_number(&job, JOB_RESULT_TTL_S, 77), 77);
}
END_TEST

static const struct {
	const char *before, *after;
} attempts[] = {
	{"{\"id\":\"a\"}", "{\"id\":\"a\",\"attempt\":3}"},
	{"{\"attempt\":2,\"id\":\"a\"}", "{\"id\":\"a\",\"attempt\":3}"},
	{"{\"id\":\"a\",\"attempt\":2}", "{\"id\":\"a\",\"attempt\":3}"},
	{"{\"id\":\"a\" , \"attempt\" : 2 , \"b\":[1.0] }", "{\"id\":\"a\" ,  \"b\":[1.0] ,\"attempt\":3}"},
	{"{\"attempt\":1,\"attempt\":2,\"id\":\"a\"} ", "{\"id\":\"a\",\"attempt\":3}"},
	{"{\"id\":\"a\",\"\\u0061ttempt\":1,\"x\":{\"attempt\":9}}", "{\"id\":\"a\",\"x\":{\"attempt\":9},\"attempt\":3}"},
	{"{\"id\":\"a\",\"n\":9007199254740993,\"t\":\"}\"}", "{\"id\":\"a\",\"n\":9007199254740993,\"t\":\"}\",\"attempt\":3}"},
	{"\n{ \"id\":\"a\", \"attempt\":0 }\n", "\n{ \"id\":\"a\", \"attempt\":3}"},
};

START_TEST(attempt_is_set_and_nothing_else)
{
	struct buf out = BUF_INIT(1000);
	struct span text;

	parse(attempts[_i].before);
	job_with_attempt(&job, 3, &out);
	ck_assert_str_eq(out.ptr, attempts[_i].after);
	text = (struct span){out.ptr, out.len};
	ck_assert_int_eq(json_scan(text.ptr, text.len, NULL, NULL, NULL), JSON_OK);
	buf_release(&out);
}
END_TEST

START_TEST(a_result_has_the_contracts_shape)
{
	struct outcome_facts facts = {.queue = "q", .worker = "w", .attempts = 2, .started_at_ms = 5, .finished_at_ms = 6, .api_ms = 0.8};
	struct buf out = BUF_INIT(10000);
	struct outcome o;

	outcome_init(&o);
	parse("{\"id\":\"a\",\"text\":\"x\",\"enqueued_at_ms\":4,\"traceparent\":\"00-1\"}");
	o.kind = OUTCOME_SUCCEEDED;
	buf_str_add(&o.result, "{\"text\":\"y\"}");
	outcome_result_json(&job, &o, &facts, &out);
	ck_assert_str_eq(out.ptr, "{\"id\":\"a\",\"queue\":\"q\",\"type\":\"translate\",\"status\":\"succeeded\",\"result\":{\"text\":\"y\"},\"attempts\":2,\"enqueued_at_ms\":4,"
				  "\"started_at_ms\":5,\"finished_at_ms\":6,\"api_ms\":0.8,\"cached\":false,\"worker\":\"w\",\"traceparent\":\"00-1\"}");
	buf_clear(&out);
	parse("{\"id\":\"a\",\"text\":7}");
	o.kind = OUTCOME_FAILED;
	fault_set(&o.fault, "APIError", 503, "down \"now\"");
	o.fault.retryable = true;
	o.fault.service = "khaya";
	facts.started_at_ms = 0;
	outcome_result_json(&job, &o, &facts, &out);
	ck_assert_str_eq(out.ptr, "{\"id\":\"a\",\"queue\":\"q\",\"type\":\"translate\",\"status\":\"failed\",\"error\":{\"type\":\"APIError\",\"message\":\"down \\\"now\\\"\",\"status_code\":503,"
				  "\"code\":null,\"details\":[],\"activity_id\":null,\"retryable\":true,\"service\":\"khaya\"},\"attempts\":2,\"enqueued_at_ms\":null,\"started_at_ms\":null,"
				  "\"finished_at_ms\":6,\"api_ms\":0.8,\"cached\":false,\"worker\":\"w\"}");
	outcome_release(&o);
	buf_release(&out);
}
END_TEST

START_TEST(a_long_message_is_cut_at_a_character)
{
	struct buf out = BUF_INIT(100000);
	char *text = malloc(40001);

	for (size_t i = 0; i < 40000; i += 2)
		memcpy(text + i, "\xc3\xa9", 2);
	text[40000] = '\0';
	fault_set(&fault, "APIError", 500, "x%s", text);
	fault_json(&fault, &out);
	ck_assert_uint_lt(out.len, FAULT_MESSAGE_MAX + 200);
	ck_assert_int_eq(json_scan(out.ptr, out.len, NULL, NULL, NULL), JSON_OK);
	buf_release(&out);
	free(text);
}
END_TEST

START_TEST(delays_are_those_of_the_formula)
{
	for (int64_t n = 1; n <= 6; n++) {
		ck_assert_int_eq(outcome_retry_delay_ms(n, RETRY_AFTER_NONE, 0), 1000LL << (n - 1));
		ck_assert_int_eq(outcome_retry_delay_ms(n, RETRY_AFTER_NONE, 0.5), (1000LL << (n - 1)) + 500);
	}
	ck_assert_int_eq(outcome_retry_delay_ms(7, RETRY_AFTER_NONE, 0.9), 60000);
	ck_assert_int_eq(outcome_retry_delay_ms(100, RETRY_AFTER_NONE, 0.9), 60000);
	ck_assert_int_eq(outcome_retry_delay_ms(1, 0, 0.99), 0);
	ck_assert_int_eq(outcome_retry_delay_ms(9, 2000, 0), 2000);
	ck_assert_int_eq(outcome_retry_delay_ms(1, 2000, 0.5), 2100);
	ck_assert_int_eq(outcome_retry_delay_ms(1, 99999999, 0.5), 3602500);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("job");
	TCase *t = tcase_create("all");
	SRunner *r;
	int failed;

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, a_job_is_read);
	tcase_add_test(t, the_last_of_two_counts_and_null_is_absent);
	tcase_add_test(t, a_bad_number_does_not_shape_the_result);
	tcase_add_loop_test(t, attempt_is_set_and_nothing_else, 0, sizeof attempts / sizeof *attempts);
	tcase_add_test(t, a_result_has_the_contracts_shape);
	tcase_add_test(t, a_long_message_is_cut_at_a_character);
	tcase_add_test(t, delays_are_those_of_the_formula);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
