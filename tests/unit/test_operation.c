/* SPDX-License-Identifier: MIT
 *
 * The table of TaskingAI's operations: that its rows fit together. What each sends is tests/system/test_taskingai_requests.py's. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "job/operation.h"

#define OPERATIONS 42

static size_t count_params(const struct operation *op)
{
	size_t n = 0;

	while (op->params[n].name)
		n++;
	return n;
}

START_TEST(a_row_is_well_formed)
{
	const struct operation *op = operation_at((size_t)_i);
	const char *at = op->path;
	size_t n = count_params(op), i = 0;

	ck_assert_ptr_eq(operation_find(op->type.name, strlen(op->type.name)), op);
	ck_assert_ptr_eq(job_type_find(op->type.name, strlen(op->type.name)), &op->type);
	ck_assert_uint_lt(n, OPERATION_PARAMS_MAX);
	ck_assert_int_eq(op->type.kind, JOB_TASKINGAI);
	ck_assert_int_eq(op->type.timeout_ms, 310000);
	/* Ids of the path come first, and in its order. */
	for (; (at = strchr(at, '{')); at++, i++) {
		size_t len = strlen(op->params[i].name);

		ck_assert_int_eq(op->params[i].place, PARAM_PATH);
		ck_assert(strncmp(at + 1, op->params[i].name, len) == 0 && at[len + 1] == '}');
		ck_assert(op->params[i].required && op->params[i].kind == PARAM_ID);
	}
	for (; i < n; i++) {
		const struct param *p = &op->params[i];
		enum json_type type;

		ck_assert_int_ne(p->place, PARAM_PATH);
		ck_assert(!(p->required && p->otherwise));
		ck_assert_str_ne(operation_kind_name(p->kind), "");
		ck_assert(!p->otherwise || json_scan(p->otherwise, strlen(p->otherwise), &type, NULL, NULL) == JSON_OK);
	}
	/* Whatever is sent with GET or DELETE has no body. */
	for (i = 0; i < n && strcmp(op->method, "POST") != 0; i++)
		ck_assert_int_ne(op->params[i].place, PARAM_BODY);
	ck_assert_int_eq(op->repeat == REPEAT_DELETE, strcmp(op->method, "DELETE") == 0);
}
END_TEST

START_TEST(there_are_so_many_and_no_more)
{
	ck_assert_ptr_nonnull(operation_at(OPERATIONS - 1));
	ck_assert_ptr_null(operation_at(OPERATIONS));
	ck_assert_ptr_null(operation_find("taskingai.", 10));
	ck_assert_ptr_null(operation_find("list_assistants", 15));
	ck_assert_ptr_null(operation_find("taskingai.list_assistantsX", 26));
}
END_TEST

/* What must not be carried out twice (taskingai-api.md 3.9), whether the job says so or not; and what streams. */
static const struct {
	const char *job;
	bool holds, streams;
} jobs[] = {
	{"{\"type\":\"taskingai.get_assistant\"}", false, false},
	{"{\"type\":\"taskingai.create_assistant\"}", true, false},
	{"{\"type\":\"taskingai.create_chat\"}", true, false},
	{"{\"type\":\"taskingai.create_message\"}", true, false},
	{"{\"type\":\"taskingai.create_collection\"}", true, false},
	{"{\"type\":\"taskingai.create_record\"}", true, false},
	{"{\"type\":\"taskingai.create_chunk\"}", true, false},
	{"{\"type\":\"taskingai.bulk_create_actions\"}", true, false},
	{"{\"type\":\"taskingai.generate_message\"}", true, false},
	{"{\"type\":\"taskingai.clean_chat_context\"}", true, false},
	{"{\"type\":\"taskingai.run_action\"}", true, false},
	{"{\"type\":\"taskingai.upload_file\"}", false, false},
	{"{\"type\":\"taskingai.update_record\"}", false, false},
	{"{\"type\":\"taskingai.delete_record\"}", false, false},
	{"{\"type\":\"taskingai.query_chunks\"}", false, false},
	{"{\"type\":\"taskingai.chat_completion\",\"params\":{\"model_id\":\"TpAb12Cd\"}}", false, false},
	{"{\"type\":\"taskingai.chat_completion\",\"params\":{\"model_id\":\"X5lMaaaaBBBBccccDDDD1234\"}}", true,
	 false},
	{"{\"type\":\"taskingai.chat_completion\",\"params\":{\"model_id\":\"X5lMaaaaBBBBccccDDDD12\\u00334\"}}", true,
	 false},
	{"{\"type\":\"taskingai.chat_completion\",\"params\":{\"model_id\":24}}", false, false},
	{"{\"type\":\"taskingai.chat_completion\",\"params\":[1]}", false, false},
	{"{\"type\":\"taskingai.chat_completion\",\"params\":{\"stream\":true}}", false, true},
	{"{\"type\":\"taskingai.chat_completion\",\"params\":{\"stream\":\"true\"}}", false, false},
	{"{\"type\":\"taskingai.chat_completion\",\"params\":{\"debug\":true}}", false, false},
	{"{\"type\":\"taskingai.generate_message\",\"params\":{\"debug\":true}}", true, true},
	{"{\"type\":\"taskingai.create_chat\",\"params\":{\"stream\":true}}", true, false},
	{"{\"type\":\"taskingai.create_chat\",\"if_unsure\":\"rerun\"}", false, false},
	{"{\"type\":\"taskingai.get_chat\",\"if_unsure\":\"hold\"}", true, false},
	{"{\"type\":\"translate\",\"params\":{\"stream\":true}}", false, false},
};

START_TEST(who_holds_and_who_streams)
{
	struct fault fault;
	struct job job;

	fault_init(&fault);
	(void)job_parse(&job, jobs[_i].job, strlen(jobs[_i].job), "", 10000, &fault);
	ck_assert_ptr_nonnull(job.type);
	ck_assert_int_eq(job_holds(&job), jobs[_i].holds);
	ck_assert_int_eq(job_streams(&job), jobs[_i].streams);
	job_release(&job);
	fault_release(&fault);
}
END_TEST

int main(void)
{
	Suite *suite = suite_create("operation");
	TCase *t = tcase_create("all");
	SRunner *runner;
	int failed;

	tcase_add_loop_test(t, a_row_is_well_formed, 0, OPERATIONS);
	tcase_add_test(t, there_are_so_many_and_no_more);
	tcase_add_loop_test(t, who_holds_and_who_streams, 0, sizeof jobs / sizeof *jobs);
	suite_add_tcase(suite, t);
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_NORMAL);
	failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed ? EXIT_FAILURE : EXIT_SUCCESS;
}
