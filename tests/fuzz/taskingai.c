/* SPDX-License-Identifier: MIT
 *
 * What TaskingAI answers, as an envelope or as a stream: whatever comes, there is one outcome, it is JSON, and an answer that is no success is none.
 * The input's first byte says which operation, status and content type, the second where a stream is cut; the rest is the body. */
#include "fuzz.h"

#include "api/api.h"
#include "base/utf8.h"

#define RESULT_BYTES_MAX (64UL * 1024 * 1024)
#define COUNT(a) (sizeof(a) / sizeof *(a))

static const char *const jobs[] = {
	"{\"id\":\"a\",\"type\":\"taskingai.get_chat\",\"params\":{\"assistant_id\":\"a\",\"chat_id\":\"c\"}}",
	"{\"id\":\"a\",\"type\":\"taskingai.delete_chat\",\"params\":{\"assistant_id\":\"a\",\"chat_id\":\"c\"}}",
	"{\"id\":\"a\",\"type\":\"taskingai.list_assistants\"}",
	"{\"id\":\"a\",\"type\":\"taskingai.text_embedding\",\"params\":{\"model_id\":\"m\",\"input\":[\"a\",\"b\"]}}",
	"{\"id\":\"a\",\"type\":\"taskingai.chat_completion\",\"params\":{\"model_id\":\"m\",\"messages\":[{}],\"stream\":true}}",
};
static const long statuses[] = {200, 200, 200, 400, 401, 404, 422, 429, 500, 503};

static size_t pieces;

static void take_piece(void *ctx, const char *json, size_t n)
{
	enum json_type type = JSON_NULL;

	(void)ctx;
	pieces++;
	must(json_scan(json, n, &type, NULL, NULL) == JSON_OK && type == JSON_OBJECT);
}

static void check_whole(const struct job *job, const struct outcome *out)
{
	static const struct outcome_facts facts = {.queue = "q", .worker = "w", .attempts = 1};
	struct buf text = BUF_INIT(RESULT_BYTES_MAX);
	struct outcome_value value = outcome_result_json(job, out, &facts, &text);
	enum json_type type = JSON_NULL;

	must(!text.failed && utf8_valid(text.ptr, text.len));
	must(json_scan(text.ptr, text.len, &type, NULL, NULL) == JSON_OK && type == JSON_OBJECT);
	must(json_scan(text.ptr + value.from, value.to - value.from, &type, NULL, NULL) == JSON_OK &&
	     type == JSON_OBJECT);
	buf_release(&text);
}

/* As curl brings it: in parts, until the sink wants no more. */
static void stream(struct call *call, const uint8_t *data, size_t size, size_t step, struct http_response *resp)
{
	enum http_sink_says says = HTTP_SINK_MORE;

	call->stream.piece = take_piece;
	for (size_t at = 0, n; at < size && says == HTTP_SINK_MORE; at += n) {
		n = step < size - at ? step : size - at;
		says = stream_write(&call->stream, (const char *)data + at, n);
	}
	resp->streamed = true;
	resp->end = says == HTTP_SINK_STOP ? HTTP_STOPPED : HTTP_ANSWERED;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static char key[] = "a-secret-key", host[] = "http://x";
	static struct settings s = {.taskingai_api_key = key,
				    .taskingai_host = host,
				    .khaya_base_url = host,
				    .max_response_bytes = 1 << 20};
	static struct api *api;
	size_t how = size ? data[0] : 0, cut = size > 1 ? data[1] : 0;
	const char *payload = jobs[how % COUNT(jobs)];
	struct http_response resp = {.status = statuses[how / COUNT(jobs) % COUNT(statuses)], .sent = true};
	struct call call;
	struct job job = {0};
	struct fault fault;
	struct outcome out;
	struct error err;

	if (!api)
		api = api_new(&s, &err);
	must(api);
	fault_init(&fault);
	outcome_init(&out);
	call_init(&call);
	must(job_parse(&job, payload, strlen(payload), "", 1000, &fault) == 0);
	must(api_build(api, &job, &call, &out) == 0);
	call.repeated = cut % 2;
	resp.body = BUF_INIT(SIZE_MAX / 4);
	pieces = 0;
	if (size > 2 && call.stream.wanted && resp.status == 200)
		stream(&call, data + 2, size - 2, 1 + cut % 9, &resp);
	else if (size > 2)
		buf_add(&resp.body, data + 2, size - 2);
	api_read(api, &job, &call, &resp, &out);
	must(out.kind != OUTCOME_SUCCEEDED || resp.status == 200 || (resp.status == 404 && call.repeated));
	must(out.kind == OUTCOME_SUCCEEDED ||
	     (out.fault.service && out.fault.type[0] && out.fault.message.len > 0 && out.fault.code.len > 0));
	must(out.kind == OUTCOME_SUCCEEDED || !strstr(buf_cstr(&out.fault.message), "a-secret-key"));
	check_whole(&job, &out);
	buf_release(&resp.body);
	call_release(&call);
	outcome_release(&out);
	fault_release(&fault);
	job_release(&job);
	return 0;
}
