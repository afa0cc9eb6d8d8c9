/* SPDX-License-Identifier: MIT
 *
 * Reading jobs, putting them back, results and retry delays. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
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
	ck_assert_int_eq(
		parse("{\"id\":\"a\",\"text\":\"x\\u00e9\",\"timeout_ms\":5e1,\"unknown\":[1],\"speaker\":7,\"reply\":\"r\"}"),
		0);
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
	ck_assert_int_eq(
		parse("{\"id\":\"a\",\"text\":5,\"text\":\"ok\",\"max_attempts\":3,\"max_attempts\":null,\"\\u0069d\":\"b\"}"),
		0);
	ck_assert_str_eq(job.id, "b");
	ck_assert(!job_has(&job, JOB_MAX_ATTEMPTS));
}
END_TEST

START_TEST(a_key_is_decoded_once)
{
	ck_assert_int_eq(parse("{\"id\":\"a\",\"text\":\"x\",\"\\\\u0069d\":\"b\",\"te\\\\u0078t\":5}"), 0);
	ck_assert_str_eq(job.id, "a");
	ck_assert_str_eq(job_string(&job, JOB_TEXT, "?"), "x");
	/* No escapes: read as such they lead out of a table. */
	ck_assert_int_eq(parse("{\"id\":\"a\",\"text\":\"x\",\"\\\\&\":1,\"\\\\\":1,\"\\\\u\":1,\"\\\\\\u00ff\":1}"),
			 0);
}
END_TEST

START_TEST(a_bad_number_does_not_shape_the_result)
{
	ck_assert_int_eq(parse("{\"id\":\"a\",\"text\":\"x\",\"result_ttl_s\":0}"), -1);
	ck_assert_str_eq(fault.type, "InvalidJobError");
	ck_assert_int_eq(job_number(&job, JOB_RESULT_TTL_S, 77), 77);
}
END_TEST

/* --- What is refused. --------------------------------------------------------------------------------------------------- */

static const struct {
	const char *queue, *payload, *id, *part; /* part of the message; NULL: taken */
} jobs[] = {
	/* No object, or no usable id. */
	{"translate", "", "", "no JSON object"},
	{"translate", "[{\"id\":\"a\"}]", "", "no JSON object"},
	{"translate", "\"id\"", "", "no JSON object"},
	{"translate", "{\"id\":\"a\",\"text\":\"x\"} x", "", "no JSON object"},
	{"translate", "{\"id\":\"a\",\"text\":\"x\",}", "", "no JSON object"},
	{"translate", "\xef\xbb\xbf{\"id\":\"a\",\"text\":\"x\"}", "", "no JSON object"},
	{"translate", "{}", "", "no usable id"},
	{"translate", "{\"id\":7,\"text\":5}", "", "no usable id"},
	{"translate", "{\"id\":\"\"}", "", "no usable id"},
	{"translate", "{\"id\":\"a b\"}", "", "no usable id"},
	{"translate", "{\"id\":\"a\\u0000\"}", "", "no usable id"},
	{"translate", "{\"id\":\"\\u00e9\"}", "", "no usable id"},
	{"translate", "{\"id\":\"a\",\"id\":null}", "", "no usable id"},
	{"translate", "{\"id\":\"a\",\"id\":\"!\"}", "", "no usable id"},
	{"translate", "{\"ID\":\"a\",\"i\\u0064\\u0000\":\"a\"}", "", "no usable id"},
	{"translate", "{\"x\":{\"id\":\"a\"}}", "", "no usable id"},
	{"translate", "{\"id\":\"aZ09._:-\"}", "aZ09._:-", NULL},
	{"translate", " {\"\\u0069\\u0064\" : \"\\u0061\" } ", "a", NULL},
	/* The type. */
	{"bulk", "{\"id\":\"a\"}", "a", "field 'type' is missing, and the queue's name 'bulk' is no type"},
	{"bulk", "{\"id\":\"a\",\"type\":null}", "a", "field 'type' is missing"},
	{"bulk", "{\"id\":\"a\",\"type\":\"translate\"}", "a", NULL},
	{"bulk", "{\"id\":\"a\",\"type\":\"\\u0074ranslate\"}", "a", NULL},
	{"translate", "{\"id\":\"a\",\"type\":\"Translate\"}", "a", "type \"Translate\" is unknown"},
	{"translate", "{\"id\":\"a\",\"type\":\"\"}", "a", "type \"\" is unknown"},
	{"translate", "{\"id\":\"a\",\"type\":\"translate\\u0000\"}", "a",
	 "field 'type' must not contain the character U+0000"},
	{"translate", "{\"id\":\"a\",\"type\":{},\"timeout_ms\":0}", "a", "field 'type' must be a string, got {}"},
	{"taskingai", "{\"id\":\"a\",\"type\":\"taskingai.chat\"}", "a",
	 "type \"taskingai.chat\" is unknown to this version"},
	{"taskingai", "{\"id\":\"a\",\"type\":\"taskingai.chat_completion\"}", "a",
	 "params.model_id is missing: taskingai.chat_completion needs it, non-empty string"},
	/* Fields of all types. */
	{"translate", "{\"id\":\"a\",\"reply\":\"\"}", "a",
	 "field 'reply' must be 1 to 128 characters of A-Z a-z 0-9 . _ : -, got \"\""},
	{"translate", "{\"id\":\"a\",\"reply\":7}", "a", "field 'reply' must be"},
	{"translate", "{\"id\":\"a\",\"timeout_ms\":1}", "a", NULL},
	{"translate", "{\"id\":\"a\",\"timeout_ms\":3600000}", "a", NULL},
	{"translate", "{\"id\":\"a\",\"timeout_ms\":36e5}", "a", NULL},
	{"translate", "{\"id\":\"a\",\"timeout_ms\":0}", "a",
	 "field 'timeout_ms' must be an integer from 1 to 3600000, got 0"},
	{"translate", "{\"id\":\"a\",\"timeout_ms\":3600001}", "a", "got 3600001"},
	{"translate", "{\"id\":\"a\",\"timeout_ms\":1.5}", "a", "got 1.5"},
	{"translate", "{\"id\":\"a\",\"timeout_ms\":1e400}", "a", "got 1e400"},
	{"translate", "{\"id\":\"a\",\"timeout_ms\":18446744073709551617}", "a", "got 18446744073709551617"},
	{"translate", "{\"id\":\"a\",\"timeout_ms\":\"5\"}", "a", "got \"5\""},
	{"translate", "{\"id\":\"a\",\"timeout_ms\":true}", "a", "got true"},
	{"translate",
	 "{\"id\":\"a\",\"max_attempts\":100,\"result_ttl_s\":31536000,\"attempt\":1000000,\"not_before_ms\":0}", "a",
	 NULL},
	{"translate", "{\"id\":\"a\",\"max_attempts\":0}", "a", "from 1 to 100"},
	{"translate", "{\"id\":\"a\",\"max_attempts\":101}", "a", "from 1 to 100"},
	{"translate", "{\"id\":\"a\",\"result_ttl_s\":31536001}", "a", "from 1 to 31536000"},
	{"translate", "{\"id\":\"a\",\"attempt\":1000001}", "a", "from 0 to 1000000"},
	{"translate", "{\"id\":\"a\",\"attempt\":-1}", "a", "from 0 to 1000000"},
	{"translate", "{\"id\":\"a\",\"not_before_ms\":-1}", "a", "'not_before_ms'"},
	{"translate", "{\"id\":\"a\",\"expires_at_ms\":9007199254740992}", "a", NULL},
	{"translate", "{\"id\":\"a\",\"expires_at_ms\":9007199254740993}", "a", "'expires_at_ms'"},
	{"translate", "{\"id\":\"a\",\"enqueued_at_ms\":[]}", "a", "'enqueued_at_ms'"},
	{"translate", "{\"id\":\"a\",\"if_unsure\":\"rerun\"}", "a", NULL},
	{"translate", "{\"id\":\"a\",\"if_unsure\":\"\\u0068old\"}", "a", NULL},
	{"translate", "{\"id\":\"a\",\"if_unsure\":\"hol\"}", "a",
	 "field 'if_unsure' must be one of rerun|hold, got \"hol\""},
	{"translate", "{\"id\":\"a\",\"if_unsure\":\"rerun|hold\"}", "a", "one of rerun|hold"},
	{"translate", "{\"id\":\"a\",\"if_unsure\":true}", "a", "field 'if_unsure' must be a string, got true"},
	{"translate", "{\"id\":\"a\",\"cache\":false}", "a", NULL},
	{"translate", "{\"id\":\"a\",\"cache\":0}", "a", "field 'cache' must be true or false, got 0"},
	{"translate", "{\"id\":\"a\",\"traceparent\":{}}", "a", "field 'traceparent' must be a string"},
	/* Fields of its own; those of other types are no business of this one. */
	{"translate", "{\"id\":\"a\",\"text\":5}", "a", "field 'text' must be a string, got 5"},
	{"translate", "{\"id\":\"a\",\"text\":\"\\u0000\"}", "a", "field 'text' must not contain the character U+0000"},
	{"translate", "{\"id\":\"a\",\"text\":\"\\\\u0000\"}", "a", NULL},
	{"translate", "{\"id\":\"a\",\"text\":\"\\ud83d\\ude00\"}", "a", NULL},
	{"translate", "{\"id\":\"a\",\"text\":\"\\ud83dx\"}", "a",
	 "field 'text' must be Unicode text without lone surrogates"},
	{"translate", "{\"id\":\"a\",\"text\":\"\\ude00\\ud83d\"}", "a", "lone surrogates"},
	{"translate", "{\"id\":\"a\",\"language_pair\":[\"en\",\"tw\"]}", "a",
	 "field 'language_pair' must be a string, got [\"en\",\"tw\"]"},
	{"translate",
	 "{\"id\":\"a\",\"speaker\":5,\"output\":\"fax\",\"audio_key\":{},\"language\":\"\\ud800\",\"params\":3}", "a",
	 NULL},
	{"transcribe", "{\"id\":\"a\",\"text\":5,\"audio_key\":\"k\"}", "a", NULL},
	{"transcribe", "{\"id\":\"a\"}", "a",
	 "exactly one of audio_path, audio_key, audio_url and audio_base64 is needed, got 0"},
	{"transcribe", "{\"id\":\"a\",\"audio_path\":null,\"audio_url\":\"\"}", "a", NULL},
	{"transcribe", "{\"id\":\"a\",\"audio_path\":\"\",\"audio_base64\":\"\"}", "a", "got 2"},
	{"transcribe", "{\"id\":\"a\",\"audio_path\":\"\",\"audio_base64\":\"\",\"audio_key\":\"\",\"audio_url\":\"\"}",
	 "a", "got 4"},
	{"transcribe", "{\"id\":\"a\",\"audio_base64\":5}", "a", "field 'audio_base64' must be a string"},
	{"transcribe", "{\"id\":\"a\",\"audio_key\":\"k\",\"timestamps\":true}", "a",
	 "field 'timestamps' must be a string, got true"},
	{"synthesize",
	 "{\"id\":\"a\",\"text\":\"\",\"language\":\"?\",\"speaker\":\"robot\",\"format\":\"mp3\",\"output\":\"path\"}",
	 "a", NULL},
	{"synthesize", "{\"id\":\"a\",\"output\":\"fax\"}", "a",
	 "field 'output' must be one of key|base64|path, got \"fax\""},
	{"synthesize", "{\"id\":\"a\",\"output\":\"\"}", "a", "one of key|base64|path"},
	{"synthesize", "{\"id\":\"a\",\"output_path\":5}", "a", "field 'output_path' must be a string"},
};

START_TEST(each_job_is_taken_or_refused_with_the_reason)
{
	int rc;

	fault_set(&fault, "APIError", 500, "untouched");
	fault.service = "another";
	rc = job_parse(&job, jobs[_i].payload, strlen(jobs[_i].payload), jobs[_i].queue, 100000, &fault);
	ck_assert_str_eq(job.id, jobs[_i].id);
	ck_assert_int_eq(rc, jobs[_i].part ? -1 : 0);
	ck_assert_int_eq(!fault.service, !job.type);
	ck_assert_msg(!job.type || strcmp(fault.service, job.type->service) == 0, "%s", fault.service);
	if (!jobs[_i].part)
		return;
	ck_assert_str_eq(fault.type, "InvalidJobError");
	ck_assert_int_eq(fault.status_code, 0);
	ck_assert(!fault.retryable);
	ck_assert_msg(strstr(buf_cstr(&fault.message), jobs[_i].part), "'%s' does not say '%s'",
		      buf_cstr(&fault.message), jobs[_i].part);
}
END_TEST

/* text: printed with one %s, which becomes n times fill. */
static int parse_filled(const char *text, const char *fill, size_t n, size_t max_bytes)
{
	static struct buf payload = {.max = 1000000};
	const char *at = strstr(text, "%s");

	buf_clear(&payload);
	buf_add(&payload, text, (size_t)(at - text));
	while (n-- > 0)
		buf_str_add(&payload, fill);
	buf_str_add(&payload, at + 2);
	job_release(&job);
	return job_parse(&job, payload.ptr, payload.len, "translate", max_bytes, &fault);
}

START_TEST(lengths_are_bounded)
{
	ck_assert_int_eq(parse_filled("{\"id\":\"%s\"}", "x", JOB_ID_MAX, 1000), 0);
	ck_assert_uint_eq(strlen(job.id), JOB_ID_MAX);
	ck_assert_int_eq(parse_filled("{\"id\":\"%s\"}", "x", JOB_ID_MAX + 1, 1000), -1);
	ck_assert_str_eq(job.id, "");
	ck_assert_int_eq(parse_filled("{\"id\":\"%s\"}", "\\u0078", JOB_ID_MAX, 1000), 0);
	ck_assert_int_eq(parse_filled("{\"id\":\"%s\"}", "\\u0078", JOB_ID_MAX + 1, 1000), -1);
	ck_assert_int_eq(parse_filled("{\"id\":\"a\",\"reply\":\"%s\"}", "x", JOB_ID_MAX + 1, 1000), -1);
	ck_assert_int_eq(parse_filled("{\"id\":\"a\",\"traceparent\":\"%s\"}", "x", 256, 1000), 0);
	ck_assert_int_eq(parse_filled("{\"id\":\"a\",\"traceparent\":\"%s\"}", "x", 257, 1000), -1);
	ck_assert_ptr_nonnull(strstr(buf_cstr(&fault.message), "at most 256 bytes"));
	ck_assert_int_eq(parse_filled("{\"id\":\"a\",\"text\":\"%s\"}", "x", 1000, 1020), 0);
	ck_assert_int_eq(parse_filled("{\"id\":\"a\",\"text\":\"%s\"}", "x", 1001, 1020), -1);
	ck_assert_str_eq(job.id, "a");
	ck_assert_str_eq(buf_cstr(&fault.message), "the job has 1021 bytes; max_job_bytes allows 1020");
	/* A worker's own field does not count, however often the job comes back. */
	ck_assert_int_eq(parse_filled("{\"id\":\"a\",\"text\":\"%s\",\"attempt\":1000000}", "x", 1000, 1020), 0);
	ck_assert_int_eq(parse_filled("{\"id\":\"a\",\"text\":\"%s\",\"attempt\":9}", "x", 1001, 1020), -1);
	ck_assert_int_eq(parse_filled("{\"id\":\"a\",\"attempt\":1.%s}", "0", 1000, 1000), -1);
	ck_assert_int_eq(parse_filled("{\"attempt\":%s}", "1", 1, 1), -1);
	/* A long key is none of ours, whatever it begins with. */
	ck_assert_int_eq(parse_filled("{\"id\":\"a\",\"\\u0069\\u0064%s\":\"b\"}", "x", 500, 10000), 0);
	ck_assert_str_eq(job.id, "a");
}
END_TEST

START_TEST(a_quoted_value_is_cut_at_a_character)
{
	ck_assert_int_eq(parse_filled("{\"id\":\"a\",\"timeout_ms\":\"xy%s\"}", "\xc3\xa9", 100, 1000), -1);
	ck_assert_uint_lt(fault.message.len, 150);
	ck_assert(utf8_valid(fault.message.ptr, fault.message.len));
	ck_assert_ptr_nonnull(strstr(fault.message.ptr, "got \"xy\xc3\xa9\xc3\xa9"));
	ck_assert_ptr_nonnull(strstr(fault.message.ptr, "\xc3\xa9…"));
}
END_TEST

/* The size first, then depth, then the bytes, then the type, then the fields; and what the result needs is read all the same. */
START_TEST(faults_come_in_order)
{
#define HEAD "{\"id\":\"a\",\"reply\":\"r\",\"type\":\"dance\",\"result_ttl_s\":5,\"enqueued_at_ms\":6,\"timeout_ms\":0"
	static const struct {
		const char *text;
		size_t max_bytes;
		const char *part;
	} cases[] = {
		{HEAD ",\"text\":\"\xff\",\"x\":%s}", 100, "max_job_bytes allows 100"},
		{HEAD ",\"text\":\"\xff\",\"x\":%s}", 1000, "nested deeper"},
		{HEAD ",\"text\":\"\xff\",\"x\":\"%s\"}", 1000, "no UTF-8"},
		{HEAD ",\"x\":\"%s\"}", 1000, "type \"dance\" is unknown"},
	};
	char deep[403] = {0};

	memset(deep, '[', 201);
	memset(deep + 201, ']', 201);
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		ck_assert_int_eq(parse_filled(cases[i].text, deep, 1, cases[i].max_bytes), -1);
		ck_assert_msg(strstr(fault.message.ptr, cases[i].part), "%s", fault.message.ptr);
		ck_assert_str_eq(job.id, "a");
		ck_assert_str_eq(job.reply, "r");
		ck_assert_int_eq(job_number(&job, JOB_RESULT_TTL_S, -7), 5);
		ck_assert_int_eq(job_number(&job, JOB_ENQUEUED_AT_MS, -7), 6);
		ck_assert(!job_has(&job, JOB_TEXT));
	}
}
END_TEST

START_TEST(depth_is_bounded)
{
	struct buf payload = BUF_INIT(10000);

	for (int depth = 199; depth <= 200; depth++) {
		buf_clear(&payload);
		buf_lit(&payload, "{\"id\":\"a\",\"x\":");
		for (int i = 0; i < depth; i++)
			buf_char(&payload, '[');
		for (int i = 0; i < depth; i++)
			buf_char(&payload, ']');
		buf_lit(&payload, ",\"timeout_ms\":9}");
		ck_assert_int_eq(parse(payload.ptr), depth > 199 ? -1 : 0);
		ck_assert_str_eq(job.id, "a");
	}
	ck_assert_str_eq(fault.message.ptr, "the job is nested deeper than 200 levels");
	buf_release(&payload);
}
END_TEST

/* What one caller holds stays while others decode more. */
START_TEST(decoded_strings_stay_where_they_are)
{
	const char *pair, *text;

	ck_assert_int_eq(
		parse_filled(
			"{\"id\":\"a\",\"type\":\"\\u0074ranslate\",\"language_pair\":\"en\\u002dtw\",\"text\":\"%s\"}",
			"0123456789", 5000, 100000),
		0);
	pair = job_string(&job, JOB_LANGUAGE_PAIR, NULL);
	text = job_string(&job, JOB_TEXT, NULL);
	ck_assert_uint_eq(strlen(text), 50000);
	ck_assert_ptr_eq(pair, job_string(&job, JOB_LANGUAGE_PAIR, NULL));
	ck_assert_str_eq(pair, "en-tw");
	ck_assert_ptr_eq(text, job_string(&job, JOB_TEXT, NULL));
}
END_TEST

START_TEST(types_have_the_contracts_times)
{
	ck_assert_int_eq(job_type_find("translate", 9)->timeout_ms, 30000);
	ck_assert_int_eq(job_type_find("transcribe", 10)->timeout_ms, 600000);
	ck_assert_int_eq(job_type_find("synthesize", 10)->timeout_ms, 600000);
	ck_assert_ptr_null(job_type_find("translat", 8));
	ck_assert_ptr_null(job_type_find("", 0));
}
END_TEST

/* --- The way back. ------------------------------------------------------------------------------------------------------ */

static const struct {
	const char *before, *after;
} attempts[] = {
	{"{\"attempt\":1}", "{\"attempt\":3}"},
	{" { \"attempt\" : 1 , \"attempt\" : 2 } ", " {  \"attempt\":3}"},
	{"{\"attempt\":1,\"id\":\"a\",\"attempt\":{\"x\":[1,2]},\"b\":\"},\",\"attempt\":null}",
	 "{\"id\":\"a\",\"b\":\"},\",\"attempt\":3}"},
	{"{\"id\":\"a\",\"attempts\":1,\"Attempt\":2}", "{\"id\":\"a\",\"attempts\":1,\"Attempt\":2,\"attempt\":3}"},
	{"{\"id\":\"a,\"\t\n,\r\"attempt\"\t:\n2\r}", "{\"id\":\"a,\"\t\n,\r\"attempt\":3}"},
	{"{\"id\":\"a\"}", "{\"id\":\"a\",\"attempt\":3}"},
	{"{\"attempt\":2,\"id\":\"a\"}", "{\"id\":\"a\",\"attempt\":3}"},
	{"{\"id\":\"a\",\"attempt\":2}", "{\"id\":\"a\",\"attempt\":3}"},
	{"{\"id\":\"a\" , \"attempt\" : 2 , \"b\":[1.0] }", "{\"id\":\"a\" ,  \"b\":[1.0] ,\"attempt\":3}"},
	{"{\"attempt\":1,\"attempt\":2,\"id\":\"a\"} ", "{\"id\":\"a\",\"attempt\":3}"},
	{"{\"id\":\"a\",\"\\u0061ttempt\":1,\"x\":{\"attempt\":9}}",
	 "{\"id\":\"a\",\"x\":{\"attempt\":9},\"attempt\":3}"},
	{"{\"id\":\"a\",\"n\":9007199254740993,\"t\":\"}\"}",
	 "{\"id\":\"a\",\"n\":9007199254740993,\"t\":\"}\",\"attempt\":3}"},
	{"\n{ \"id\":\"a\", \"attempt\":0 }\n", "\n{ \"id\":\"a\", \"attempt\":3}"},
};

START_TEST(attempt_is_set_and_nothing_else)
{
	struct buf out = BUF_INIT(1000);
	struct span text;
	int64_t n = 0;

	parse(attempts[_i].before);
	job_with_attempt(&job, 3, &(struct units){{0}}, &out);
	ck_assert_str_eq(out.ptr, attempts[_i].after);
	text = (struct span){out.ptr, out.len};
	ck_assert_int_eq(json_scan(text.ptr, text.len, NULL, NULL, NULL), JSON_OK);
	job_release(&job);
	job_parse(&job, out.ptr, out.len, "translate", 1000, &fault);
	ck_assert(json_span_int(job.field[JOB_ATTEMPT], &n) && n == 3);
	buf_release(&out);
}
END_TEST

/* Of what a worker wrote itself nothing is left but the newest, and what it adds counts for no bound. */
START_TEST(billed_is_carried_along)
{
	struct buf out = BUF_INIT(1000), again = BUF_INIT(1000);
	struct units sent = {{1, 12, 0, 0}}, before;

	parse("{\"id\":\"a\", \"billed\" : {\"request\":7} ,\"text\":\"x\"}");
	job_with_attempt(&job, 1, &sent, &out);
	ck_assert_str_eq(out.ptr,
			 "{\"id\":\"a\", \"text\":\"x\",\"billed\":{\"request\":1,\"character\":12},\"attempt\":1}");
	job_release(&job);
	ck_assert_int_eq(job_parse(&job, out.ptr, out.len, "translate", strlen("{\"id\":\"a\", \"text\":\"x\"}"),
				   &fault),
			 0);
	job_billed(&job, &before);
	ck_assert(before.n[UNIT_REQUEST] == 1 && before.n[UNIT_CHARACTER] == 12 && before.n[UNIT_TOKEN] == 0);
	units_add(&before, &sent);
	job_with_attempt(&job, 2, &before, &again);
	ck_assert_str_eq(again.ptr,
			 "{\"id\":\"a\", \"text\":\"x\",\"billed\":{\"request\":2,\"character\":24},\"attempt\":2}");
	buf_release(&out);
	buf_release(&again);
}
END_TEST

/* A producer's own field of that name does no harm. */
START_TEST(billed_of_another_shape_counts_as_none)
{
	static const char *const shapes[] = {"\"x\"", "[1]",
					     "{\"request\":-1,\"character\":\"5\",\"token\":1e300,\"other\":1}", "true",
					     "7"};
	char text[200];
	struct units before;

	snprintf(text, sizeof text, "{\"id\":\"a\",\"text\":\"x\",\"billed\":%s}", shapes[_i]);
	ck_assert_int_eq(job_parse(&job, text, strlen(text), "translate", 1000, &fault), 0);
	job_billed(&job, &before);
	for (int i = 0; i < UNITS; i++)
		ck_assert_int_eq(before.n[i], 0);
}
END_TEST

START_TEST(a_result_has_the_contracts_shape)
{
	struct outcome_facts facts = {.queue = "q",
				      .worker = "w",
				      .attempts = 2,
				      .started_at_ms = 5,
				      .finished_at_ms = 6,
				      .api_ms = 0.8,
				      .billed = {{2, 0, 0, 0}}};
	struct buf out = BUF_INIT(10000);
	struct outcome o;

	outcome_init(&o);
	parse("{\"id\":\"a\",\"text\":\"x\",\"enqueued_at_ms\":4,\"traceparent\":\"00-1\"}");
	o.kind = OUTCOME_SUCCEEDED;
	buf_str_add(&o.result, "{\"text\":\"y\"}");
	outcome_result_json(&job, &o, &facts, &out);
	ck_assert_str_eq(
		out.ptr,
		"{\"id\":\"a\",\"queue\":\"q\",\"type\":\"translate\",\"status\":\"succeeded\",\"result\":{\"text\":\"y\"},\"attempts\":2,\"enqueued_at_ms\":4,"
		"\"started_at_ms\":5,\"finished_at_ms\":6,\"api_ms\":0.8,\"cached\":false,\"worker\":\"w\",\"billed\":{\"request\":2},\"traceparent\":\"00-1\"}");
	buf_clear(&out);
	parse("{\"id\":\"a\",\"text\":7}");
	o.kind = OUTCOME_FAILED;
	fault_set(&o.fault, "APIError", 503, "down \"now\"");
	o.fault.retryable = true;
	o.fault.service = "khaya";
	facts.started_at_ms = 0;
	outcome_result_json(&job, &o, &facts, &out);
	ck_assert_str_eq(
		out.ptr,
		"{\"id\":\"a\",\"queue\":\"q\",\"type\":\"translate\",\"status\":\"failed\",\"error\":{\"type\":\"APIError\",\"message\":\"down \\\"now\\\"\",\"status_code\":503,"
		"\"code\":null,\"details\":[],\"activity_id\":null,\"retryable\":true,\"service\":\"khaya\"},\"attempts\":2,\"enqueued_at_ms\":null,\"started_at_ms\":null,"
		"\"finished_at_ms\":6,\"api_ms\":0.8,\"cached\":false,\"worker\":\"w\",\"billed\":{\"request\":2}}");
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
	tcase_add_test(t, a_key_is_decoded_once);
	tcase_add_test(t, a_bad_number_does_not_shape_the_result);
	tcase_add_loop_test(t, each_job_is_taken_or_refused_with_the_reason, 0, sizeof jobs / sizeof *jobs);
	tcase_add_test(t, lengths_are_bounded);
	tcase_add_test(t, a_quoted_value_is_cut_at_a_character);
	tcase_add_test(t, faults_come_in_order);
	tcase_add_test(t, depth_is_bounded);
	tcase_add_test(t, decoded_strings_stay_where_they_are);
	tcase_add_test(t, types_have_the_contracts_times);
	tcase_add_loop_test(t, attempt_is_set_and_nothing_else, 0, sizeof attempts / sizeof *attempts);
	tcase_add_test(t, billed_is_carried_along);
	tcase_add_loop_test(t, billed_of_another_shape_counts_as_none, 0, 5);
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
