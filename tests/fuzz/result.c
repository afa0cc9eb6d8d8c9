/* SPDX-License-Identifier: MIT
 *
 * Results and dead entries: whatever the job and the API's texts hold, what is written is JSON and says the same.
 * Input: payload, the error's message, code, details, activity id, the result; 0xff between them. */
#include "fuzz.h"

#include "base/digest.h"
#include "base/utf8.h"
#include "job/outcome.h"

#define MAX_BYTES 3000
#define WORKER "host-1-a"

static const struct outcome_facts facts = {.queue = "bulk",
					   .worker = WORKER,
					   .attempts = 3,
					   .started_at_ms = 5,
					   .finished_at_ms = 7,
					   .api_ms = 1.25,
					   .billed = {{2, 30, 0, 4}}};

/* What the API layer takes over as it stands: JSON that leaves room for the levels around it. */
static bool is_json(const char *text, enum json_type wanted)
{
	struct buf deeper = BUF_INIT(SIZE_MAX / 4);
	enum json_type type = JSON_NULL;
	bool is;

	buf_printf(&deeper, "[[[%s]]]", text);
	is = json_scan(text, strlen(text), &type, NULL, NULL) == JSON_OK && type == wanted &&
	     json_scan(deeper.ptr, deeper.len, NULL, NULL, NULL) == JSON_OK;
	buf_release(&deeper);
	return is;
}

static void check_json(const struct buf *out, struct members *m)
{
	enum json_type type = JSON_NULL;

	must(!out->failed);
	must(json_scan(out->ptr, out->len, &type, add_member, m) == JSON_OK && type == JSON_OBJECT);
	must(utf8_valid(out->ptr, out->len));
}

/* v decodes to this text, with what is no UTF-8 replaced. */
static void check_text(struct span v, const char *text, size_t len)
{
	struct buf is = BUF_INIT(SIZE_MAX / 4), expected = BUF_INIT(SIZE_MAX / 4);

	must(v.ptr && json_span_type(v) == JSON_STRING && json_span_string(v, &is));
	utf8_repair(&expected, text, len);
	must(same((struct span){buf_cstr(&is), is.len}, (struct span){buf_cstr(&expected), expected.len}));
	buf_release(&is);
	buf_release(&expected);
}

static void check_text_or_null(struct span v, const struct buf *text)
{
	if (text->len > 0)
		check_text(v, text->ptr, text->len);
	else
		must(v.ptr && json_span_type(v) == JSON_NULL);
}

static void check_error(struct span error, const struct fault *f)
{
	static const char *const names[] = {"type",    "message",     "status_code", "code",
					    "details", "activity_id", "retryable",   "service"};
	struct members m = {0};
	int64_t n = -1;

	must(error.ptr && json_scan(error.ptr, error.len, NULL, add_member, &m) == JSON_OK && m.n == 8);
	for (size_t i = 0; i < 8; i++)
		must(json_key_is(m.key[i], names[i]));
	check_text(m.value[0], f->type, strlen(f->type));
	check_text(m.value[1], buf_cstr(&f->message),
		   utf8_cut(buf_cstr(&f->message), f->message.len, FAULT_MESSAGE_MAX));
	must(json_span_int(m.value[2], &n) && n == f->status_code);
	check_text_or_null(m.value[3], &f->code);
	must(json_span_type(m.value[4]) == JSON_ARRAY);
	check_text_or_null(m.value[5], &f->activity_id);
	must(json_span_is_true(m.value[6]) == f->retryable);
	release_members(&m);
}

static void check_result(const struct job *job, const struct outcome *o)
{
	struct span trace = job->field[JOB_TRACEPARENT], v;
	struct buf out = BUF_INIT(SIZE_MAX / 4);
	struct members m = {0};
	struct units billed;
	int64_t n = -1;

	outcome_result_json(job, o, &facts, &out);
	check_json(&out, &m);
	must(m.n == 13 || m.n == 14);
	must(json_key_is(m.key[0], "id"));
	check_text(m.value[0], job->id, strlen(job->id));
	check_text(member(&m, "queue"), facts.queue, strlen(facts.queue));
	check_text(member(&m, "worker"), WORKER, strlen(WORKER));
	must(json_span_int(member(&m, "attempts"), &n) && n == facts.attempts);
	must(json_span_int(member(&m, "finished_at_ms"), &n) && n == facts.finished_at_ms);
	units_read(&billed, member(&m, "billed"));
	must(memcmp(&billed, &facts.billed, sizeof billed) == 0);
	v = member(&m, "type");
	if (job->type)
		check_text(v, job->type->name, strlen(job->type->name));
	v = member(&m, "enqueued_at_ms");
	if (job_number(job, JOB_ENQUEUED_AT_MS, -1) >= 0)
		must(json_span_int(v, &n) && n == job_number(job, JOB_ENQUEUED_AT_MS, -1));
	else
		must(v.ptr && json_span_type(v) == JSON_NULL);
	v = member(&m, "traceparent");
	if (v.ptr) { /* the same text, perhaps escaped otherwise */
		struct buf plain = BUF_INIT(SIZE_MAX / 4);

		must(json_span_string(trace, &plain));
		check_text(v, buf_cstr(&plain), plain.len);
		buf_release(&plain);
	}
	if (o->kind == OUTCOME_SUCCEEDED) {
		check_text(member(&m, "status"), "succeeded", 9);
		must(!member(&m, "error").ptr);
		v = member(&m, "result");
		must(memmem(o->result.ptr, o->result.len, v.ptr, v.len)); /* but for white space around */
	} else {
		check_text(member(&m, "status"), "failed", 6);
		must(!member(&m, "result").ptr);
		check_error(member(&m, "error"), &o->fault);
	}
	release_members(&m);
	buf_release(&out);
}

/* The payload can be had back from its dead entry. */
static void check_dead(const struct job *job, const struct fault *f)
{
	struct span v, payload = {job->payload, job->payload_len};
	struct buf out = BUF_INIT(SIZE_MAX / 4), plain = BUF_INIT(SIZE_MAX / 4);
	struct members m = {0};
	int64_t n = -1;

	outcome_dead_json(job, f, 99, SIZE_MAX, &out);
	check_json(&out, &m);
	must(m.n == 3 && json_span_int(member(&m, "died_at_ms"), &n) && n == 99);
	check_error(member(&m, "error"), f);
	v = member(&m, "job_base64");
	if (v.ptr) {
		must(!utf8_valid(payload.ptr, payload.len));
		must(base64_decode(&plain, v.ptr + 1, v.len - 2));
		must(same((struct span){buf_cstr(&plain), plain.len}, payload));
	} else {
		v = member(&m, "job");
		must(v.ptr);
		if (json_span_type(v) == JSON_STRING &&
		    (payload.len == 0 || !memmem(payload.ptr, payload.len, v.ptr, v.len)))
			check_text(v, payload.ptr, payload.len);
		else
			must(memmem(payload.ptr, payload.len, v.ptr, v.len));
	}
	release_members(&m);
	buf_release(&out);
	buf_release(&plain);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct span in = {(const char *)data, size};
	const char *end = size ? memchr(data, 0xff, size) : NULL;
	size_t len = end ? (size_t)(end - in.ptr) : size;
	char *payload = next_text(&in), *texts[5];
	struct outcome o;
	struct job job;
	int rc;

	for (int i = 0; i < 5; i++)
		texts[i] = next_text(&in);
	outcome_init(&o);
	rc = job_parse(&job, payload, len, "translate", MAX_BYTES, &o.fault);
	check_dead(&job, &o.fault);
	if (rc && *job.id)
		check_result(&job, &o);
	if (rc == 0 && is_json(texts[4], JSON_OBJECT)) {
		o.kind = OUTCOME_SUCCEEDED;
		buf_str_add(&o.result, texts[4]);
		check_result(&job, &o);
	}
	o.kind = OUTCOME_FAILED;
	fault_set(&o.fault, "APIError", 100 + (int)(len % 500), "%s", texts[0]);
	buf_str_add(&o.fault.code, texts[1]);
	if (is_json(texts[2], JSON_ARRAY))
		buf_str_add(&o.fault.details, texts[2]);
	buf_str_add(&o.fault.activity_id, texts[3]);
	o.fault.retryable = len % 2;
	check_dead(&job, &o.fault);
	if (*job.id)
		check_result(&job, &o);
	job_release(&job);
	outcome_release(&o);
	free(payload);
	for (int i = 0; i < 5; i++)
		free(texts[i]);
	return 0;
}
