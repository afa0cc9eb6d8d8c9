/* SPDX-License-Identifier: MIT
 *
 * What a service answers, to each type of job: whatever comes, there is one outcome, it is JSON, and an answer that is no success is none.
 * The input's first byte says which type, status and content type; the rest is the body. */
#include "fuzz.h"

#include "api/api.h"
#include "base/utf8.h"

#define RESULT_BYTES_MAX (64UL * 1024 * 1024)

static const char *const jobs[] = {
	"{\"id\":\"a\",\"type\":\"translate\",\"text\":\"x\"}",
	"{\"id\":\"a\",\"type\":\"transcribe\",\"audio_base64\":\"UklGRg==\",\"timestamps\":\"word\"}",
	"{\"id\":\"a\",\"type\":\"synthesize\",\"text\":\"x\",\"language\":\"twi\"}",
};
static const long statuses[] = {200, 204, 302, 400, 401, 403, 429, 500, 503, 520};
static const char *const types[] = {"application/json", "",	    "audio/wav", "text/html; charset=utf-8",
				    "audio/\xff'",	"Audio/WAV"};
#define COUNT(a) (sizeof(a) / sizeof *(a))

static void check_fault(const struct fault *f)
{
	const struct buf *const texts[] = {&f->message, &f->code, &f->details, &f->activity_id};

	for (size_t i = 0; i < COUNT(texts); i++) {
		must(!texts[i]->failed && texts[i]->len <= FAULT_MESSAGE_MAX + 1024);
		must(!strstr(buf_cstr(texts[i]), "a-secret-key"));
	}
	must(f->type[0] && f->service);
}

static void check_whole(const struct job *job, const struct outcome *out)
{
	static const struct outcome_facts facts = {.queue = "q", .worker = "w", .attempts = 1};
	struct buf text = BUF_INIT(RESULT_BYTES_MAX);
	enum json_type type = JSON_NULL;

	outcome_result_json(job, out, &facts, &text);
	must(!text.failed && utf8_valid(text.ptr, text.len));
	must(json_scan(text.ptr, text.len, &type, NULL, NULL) == JSON_OK && type == JSON_OBJECT);
	buf_release(&text);
}

/* The answer as a piece of a long text, twice. */
static void check_join(const struct api *api, struct job *job, struct outcome *out)
{
	static const char text[] = "First one.\n\nSecond one.";
	struct buf pieces[2] = {BUF_INIT(RESULT_BYTES_MAX), BUF_INIT(RESULT_BYTES_MAX)};
	struct call call;
	struct error err;

	call_init(&call);
	must(cut_text(text, strlen(text), 11, &call.cut, &err) == 0 && call.cut.count == 2);
	if (api_take_piece(job, out, &pieces[0]) == 0) {
		must(api_take_piece(job, out, &pieces[1]) == 0);
		outcome_clear(out);
		api_join(api, job, &call, pieces, out);
		must(out->kind == OUTCOME_SUCCEEDED);
	} else {
		must(out->kind == OUTCOME_FAILED);
	}
	check_whole(job, out);
	buf_release(&pieces[0]);
	buf_release(&pieces[1]);
	call_release(&call);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static char url[] = "https://api.example.org", key[] = "a-secret-key", version_1[] = "v1", version_3[] = "v3";
	static struct settings s = {.khaya_base_url = url,
				    .khaya_api_key = key,
				    .khaya_translation_version = version_1,
				    .khaya_asr_version = version_3,
				    .khaya_tts_version = version_1,
				    .khaya_tts_max_chars = 500,
				    .max_audio_bytes = RESULT_BYTES_MAX,
				    .max_response_bytes = RESULT_BYTES_MAX};
	static struct api *api;
	uint8_t how = size ? data[0] : 0;
	const char *payload = jobs[how % COUNT(jobs)];
	struct http_response resp = {.end = HTTP_ANSWERED,
				     .status = statuses[how / COUNT(jobs) % COUNT(statuses)],
				     .sent = true,
				     .body = BUF_INIT(SIZE_MAX / 4)};
	struct call spoken = {0};
	struct job job = {0};
	struct fault fault;
	struct outcome out;
	struct error err;

	if (!api)
		api = api_new(&s, &err);
	must(api);
	fault_init(&fault);
	outcome_init(&out);
	must(job_parse(&job, payload, strlen(payload), "", 1000, &fault) == 0);
	snprintf(resp.content_type, sizeof resp.content_type, "%s",
		 types[how / COUNT(jobs) / COUNT(statuses) % COUNT(types)]);
	buf_add(&resp.body, data + (size ? 1 : 0), size ? size - 1 : 0);
	api_read(api, &job, &spoken, &resp, &out);
	must(out.kind != OUTCOME_SUCCEEDED || resp.status < 400);
	must(out.kind != OUTCOME_RETRY || resp.status >= 429);
	if (out.kind != OUTCOME_SUCCEEDED)
		check_fault(&out.fault);
	check_whole(&job, &out);
	if (out.kind == OUTCOME_SUCCEEDED && how % COUNT(jobs) != 1)
		check_join(api, &job, &out);
	outcome_release(&out);
	fault_release(&fault);
	job_release(&job);
	buf_release(&resp.body);
	return 0;
}
