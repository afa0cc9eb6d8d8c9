/* SPDX-License-Identifier: MIT
 *
 * What an answer of TaskingAI means (taskingai-api.md, sections 3, 6 to 8). A status decides first, then the envelope; a body that is no envelope
 * is the fault of whatever stands between. */
#include <limits.h>
#include <string.h>

#include "api/answer.h"
#include "api/taskingai.h"
#include "base/utf8.h"
#include "job/operation.h"

#define ERROR_DEPTH_MAX 4 /* of messages within messages */

/* --- What is done about a failure. -------------------------------------------------------------------------------------- */

enum then { NEVER, AGAIN, TWICE };

/* The first row that fits decides (3.6, 3.7, 3.9). What is known of a failure: its status, code and words. */
static const struct rule {
	int from, to;	   /* status */
	const char *code;  /* NULL: any */
	const char *words; /* within the message, in any case; NULL: any */
	const char *type;  /* NULL: TaskingAIError */
	enum then then;
	bool nothing_done;
} rules[] = {
	{401, 401, "CREDENTIALS_VALIDATION_ERROR", NULL, NULL, NEVER,
	 false}, /* about the model's credentials, not ours */
	{401, 401, NULL, NULL, "AuthenticationError", NEVER, false},
	{404, 404, "OBJECT_NOT_FOUND", "apikey ", "AuthenticationError", NEVER, false},
	{429, 429, "RESOURCE_LIMIT_REACHED", NULL, NULL, NEVER,
	 false}, /* a collection or a chat is full, and stays so */
	{429, 429, NULL, NULL, "RateLimitError", AGAIN, true},
	{423, 423, NULL, NULL, NULL, AGAIN, true},
	{400, 400, "INVALID_REQUEST", "is locked", NULL, AGAIN, true},
	{400, 400, "PROVIDER_ERROR", "service is unavailable", NULL, AGAIN, false},
	{408, 408, NULL, NULL, NULL, AGAIN, false},
	{502, 504, NULL, NULL, NULL, AGAIN, false},
	{501, 501, NULL, NULL, NULL, NEVER, false},
	{505, 505, NULL, NULL, NULL, NEVER, false},
	{500, 599, NULL, NULL, NULL, TWICE, false}, /* several are sure to come again (3.8) */
	{0, INT_MAX, NULL, NULL, NULL, NEVER, false},
};

/* The status that goes with a code, where an error comes without one of its own: in a stream, or under 200. */
static const struct {
	const char *code;
	int status;
} statuses[] = {
	{"UNKNOWN_ERROR", 500},
	{"INTERNAL_SERVER_ERROR", 500},
	{"GENERATION_ERROR", 500},
	{"TOO_MANY_REQUESTS", 429},
	{"RESOURCE_LIMIT_REACHED", 429},
	{"OBJECT_LOCKED", 423},
	{"APIKEY_VALIDATION_FAILED", 401},
	{"TOKEN_VALIDATION_FAILED", 401},
	{"CREDENTIALS_VALIDATION_ERROR", 401},
	{"OBJECT_NOT_FOUND", 404},
};

static int status_of(const char *code)
{
	for (size_t i = 0; i < sizeof statuses / sizeof *statuses; i++)
		if (strcmp(statuses[i].code, code) == 0)
			return statuses[i].status;
	return 400;
}

static bool holds_words(const char *text, const char *words)
{
	return strcasestr(text, words) != NULL;
}

static bool rule_fits(const struct rule *r, int status, const struct fault *f)
{
	return status >= r->from && status <= r->to && (!r->code || strcmp(buf_cstr(&f->code), r->code) == 0) &&
	       (!r->words || holds_words(buf_cstr(&f->message), r->words));
}

/* Message and code are in out->fault; status: what it is judged by. */
static void judge(struct outcome *out, int status)
{
	const struct rule *r = rules;
	struct fault *f = &out->fault;

	while (!rule_fits(r, status, f))
		r++;
	f->type = r->type ? r->type : "TaskingAIError";
	f->retryable = r->then != NEVER;
	out->kind = r->then == NEVER ? OUTCOME_FAILED : OUTCOME_RETRY;
	out->tries_max = r->then == TWICE ? 2 : 0;
	out->nothing_done = r->nothing_done;
}

/* One of our own words for what is no error of the API's: transport, timeout, protocol, truncated (contract section 4). */
static void set_own_code(struct fault *f, const char *code)
{
	buf_clear(&f->code);
	buf_str_add(&f->code, code);
}

/* --- Error bodies. ------------------------------------------------------------------------------------------------------ */

static void add_printed(struct buf *to, const char *text, size_t n)
{
	struct buf whole = BUF_INIT(n * 3 + 1);

	json_add_clean(&whole, (struct span){text, n});
	answer_add_cut(to, buf_cstr(&whole), whole.len);
	buf_release(&whole);
}

struct error_spans {
	struct span error, code, error_code, message, detail, status, data, usage;
};

static void look_at(void *ctx, struct span key, struct span value)
{
	struct error_spans *e = ctx;
	const struct {
		const char *name;
		struct span *to;
	} known[] = {{"error", &e->error},     {"code", &e->code},     {"error_code", &e->error_code},
		     {"message", &e->message}, {"detail", &e->detail}, {"status", &e->status},
		     {"data", &e->data},       {"usage", &e->usage}};

	for (size_t i = 0; i < sizeof known / sizeof *known; i++)
		if (json_key_is(key, known[i].name))
			*known[i].to = value;
}

static void look_into(struct span object, struct error_spans *e)
{
	*e = (struct error_spans){0};
	(void)json_scan(object.ptr, object.len, NULL, look_at, e);
}

static bool is(struct span v, enum json_type type)
{
	return v.ptr && json_span_type(v) == type;
}

/* A string as text, anything else as it is printed; nothing for what is absent. */
static void set_words(struct buf *to, struct span v)
{
	struct json *j;

	buf_clear(to);
	if (!v.ptr || json_span_type(v) == JSON_NULL)
		return;
	if (json_span_type(v) != JSON_STRING) {
		add_printed(to, v.ptr, v.len);
		return;
	}
	j = json_parse(v.ptr, v.len);
	answer_set_text(to, j);
	json_free(j);
}

/* {"code","message"}, where the message may be such an object in its turn (3.4): the innermost words count, and the first code. */
static void read_error(struct span error, struct fault *f)
{
	struct error_spans e = {0};

	buf_clear(&f->code);
	for (int depth = 0; depth < ERROR_DEPTH_MAX && is(error, JSON_OBJECT); depth++) {
		look_into(error, &e);
		if (f->code.len == 0)
			set_words(&f->code, e.code.ptr ? e.code : e.error_code);
		if (!is(e.message, JSON_OBJECT))
			break;
		error = e.message;
	}
	if (is(error, JSON_OBJECT) && (is(e.message, JSON_STRING) || is(e.message, JSON_NULL) || !e.message.ptr))
		set_words(&f->message, e.message);
	else
		set_words(&f->message, error);
}

/* What came has no words of its own: then the status and the code speak. */
static void say_something(struct fault *f)
{
	if (f->message.len > 0)
		return;
	buf_printf(&f->message, "HTTP %d", f->status_code);
	if (f->code.len > 0)
		buf_printf(&f->message, ": %s", buf_cstr(&f->code));
	buf_lit(&f->message, " (the API gave no message)");
}

static void read_error_body(const struct http_response *resp, struct fault *f)
{
	struct span body = answer_trimmed(&resp->body);
	enum json_type type = JSON_NULL;
	struct error_spans e = {0};
	enum json_verdict verdict = json_scan(body.ptr, body.len, &type, look_at, &e);

	buf_clear(&f->code);
	if (verdict == JSON_BROKEN || verdict == JSON_TOO_DEEP || type != JSON_OBJECT) {
		answer_say_page(f, resp);
	} else if (e.error.ptr && json_span_type(e.error) != JSON_NULL) {
		read_error(e.error, f);
	} else if (e.detail.ptr) { /* the framework's own (3.5): a wrong URL, or what this server does not have */
		set_words(&f->message, e.detail);
		if (f->status_code == 404 || f->status_code == 405)
			buf_lit(&f->message,
				" (TASKINGAI_HOST names another place, or this server has no such function)");
	} else {
		read_error(body, f);
	}
	say_something(f);
	if (f->code.len == 0)
		set_own_code(f, "protocol");
}

static void read_failure(const struct http_response *resp, struct outcome *out)
{
	fault_set(&out->fault, "TaskingAIError", (int)resp->status, "%s", "");
	read_error_body(resp, &out->fault);
	judge(out, (int)resp->status);
	if (out->kind == OUTCOME_RETRY)
		out->retry_after_ms = answer_retry_after_ms(resp->retry_after);
}

/* --- No answer, or no whole one. ---------------------------------------------------------------------------------------- */

static void read_transport(const struct http_response *resp, struct outcome *out)
{
	bool again = resp->end != HTTP_REFUSED && resp->end != HTTP_TOO_LARGE;

	fault_set(&out->fault, "TaskingAIError", (int)resp->status, "Transport error: %s", resp->fault);
	set_own_code(&out->fault, resp->end == HTTP_TIMED_OUT	? "timeout"
				  : resp->end == HTTP_TOO_LARGE ? "protocol"
								: "transport");
	out->fault.retryable = again;
	out->kind = again ? OUTCOME_RETRY : OUTCOME_FAILED;
	out->unclear = resp->sent;
}

static void not_expected(const struct http_response *resp, struct outcome *out, const char *expected)
{
	struct buf snippet = BUF_INIT(SNIPPET_POINTS * 8);

	utf8_snippet(&snippet, buf_cstr(&resp->body), resp->body.len, SNIPPET_POINTS);
	out->kind = OUTCOME_FAILED;
	fault_set(&out->fault, "TaskingAIError", (int)resp->status, "Expected %s but received '%s': %s", expected,
		  *resp->content_type ? resp->content_type : "unknown", buf_cstr(&snippet));
	set_own_code(&out->fault, "protocol");
	buf_release(&snippet);
}

/* --- Successes. --------------------------------------------------------------------------------------------------------- */

static void add_member(void *ctx, struct span key, struct span value)
{
	struct buf *out = ctx;

	if (json_key_is(key, "status"))
		return;
	buf_str_add(out, out->ptr[out->len - 1] == '{' ? "\"" : ",\"");
	json_add_clean(out, key);
	buf_lit(out, "\":");
	json_add_clean(out, value);
}

/* The envelope without its status. */
static void add_envelope(struct outcome *out, struct span body, bool has_data)
{
	buf_str_add(&out->result, "{");
	if (!has_data)
		buf_lit(&out->result, "\"data\":null");
	if (!out->result.failed)
		(void)json_scan(body.ptr, body.len, NULL, add_member, &out->result);
	buf_char(&out->result, '}');
	out->kind = OUTCOME_SUCCEEDED;
}

static void add_tokens(void *ctx, struct span key, struct span value)
{
	int64_t n;

	if ((json_key_is(key, "input_tokens") || json_key_is(key, "output_tokens")) && json_span_int(value, &n) &&
	    n > 0 && n < INT32_MAX)
		*(int64_t *)ctx += n;
}

/* usage stands beside the data, or in it (chat completion). */
static void count_tokens(struct outcome *out, struct span usage, struct span data)
{
	struct error_spans inner = {0};

	if (!is(usage, JSON_OBJECT) && is(data, JSON_OBJECT)) {
		look_into(data, &inner);
		usage = inner.usage;
	}
	if (is(usage, JSON_OBJECT))
		(void)json_scan(usage.ptr, usage.len, NULL, add_tokens, &out->tokens);
}

struct vectors {
	size_t n, good;
};

static void count_one(void *ctx, struct span key, struct span value)
{
	(void)key;
	(void)value;
	++*(size_t *)ctx;
}

static size_t count_elements(struct span array)
{
	size_t n = 0;

	(void)json_elements(array, count_one, &n);
	return n;
}

static void find_embedding(void *ctx, struct span key, struct span value)
{
	if (json_key_is(key, "embedding"))
		*(bool *)ctx = json_span_type(value) == JSON_ARRAY && count_elements(value) > 0;
}

static void count_vector(void *ctx, struct span key, struct span value)
{
	struct vectors *v = ctx;
	bool good = false;

	(void)key;
	(void)json_scan(value.ptr, value.len, NULL, find_embedding, &good);
	v->n++;
	v->good += good;
}

/* Each input must have its vector (7.1). */
static bool has_vectors(const struct job *job, struct span data)
{
	struct span input = operation_value(job, "input");
	size_t inputs = is(input, JSON_ARRAY) ? count_elements(input) : 1;
	struct vectors v = {0};

	if (!is(data, JSON_ARRAY))
		return false;
	(void)json_elements(data, count_vector, &v);
	return v.n == v.good && v.good >= inputs;
}

static bool is_expected(const struct job *job, struct span data)
{
	switch (operation_of(job)->answer) {
	case ANSWER_OBJECT:
		return is(data, JSON_OBJECT);
	case ANSWER_LIST:
		return is(data, JSON_ARRAY);
	case ANSWER_VECTORS:
		return has_vectors(job, data);
	case ANSWER_EMPTY:
		break;
	}
	return true;
}

static const char *expected_by(const struct job *job)
{
	static const char *const names[] = {[ANSWER_OBJECT] = "an object in data",
					    [ANSWER_LIST] = "a list in data",
					    [ANSWER_EMPTY] = "an envelope",
					    [ANSWER_VECTORS] = "an embedding for each input"};

	return names[operation_of(job)->answer];
}

/* An error under a status of success: the code says what it is. */
static void read_hidden_error(const struct http_response *resp, struct outcome *out)
{
	fault_set(&out->fault, "TaskingAIError", (int)resp->status, "%s", "");
	read_error_body(resp, &out->fault);
	judge(out, status_of(buf_cstr(&out->fault.code)));
}

static bool is_error_envelope(const struct error_spans *e)
{
	return (is(e->status, JSON_STRING) && e->status.len == 7 && memcmp(e->status.ptr, "\"error\"", 7) == 0) ||
	       (is(e->error, JSON_OBJECT) && !e->data.ptr);
}

static void read_success(struct job *job, const struct http_response *resp, struct outcome *out)
{
	struct span body = answer_trimmed(&resp->body);
	enum json_type type = JSON_NULL;
	struct error_spans e = {0};
	enum json_verdict verdict = json_scan(body.ptr, body.len, &type, look_at, &e);

	if (verdict == JSON_BROKEN || verdict == JSON_TOO_DEEP || type != JSON_OBJECT) {
		not_expected(resp, out, "a JSON envelope");
	} else if (is_error_envelope(&e)) {
		read_hidden_error(resp, out);
	} else if (!is_expected(job, e.data)) {
		not_expected(resp, out, expected_by(job));
	} else {
		add_envelope(out, body, e.data.ptr != NULL);
		count_tokens(out, e.usage, e.data);
	}
}

/* Somebody was faster, or we were: what was asked for is so. */
static bool is_gone_already(const struct job *job, const struct call *call, const struct http_response *resp,
			    const struct outcome *out)
{
	return operation_of(job)->repeat == REPEAT_DELETE && call->repeated && resp->status == 404 &&
	       strcmp(buf_cstr(&out->fault.code), "OBJECT_NOT_FOUND") == 0 &&
	       strcmp(out->fault.type, "TaskingAIError") == 0;
}

/* --- Streams. ----------------------------------------------------------------------------------------------------------- */

static void read_stream_error(struct call_stream *s, const struct http_response *resp, struct outcome *out)
{
	struct span event = {s->error.ptr, s->error.len};
	struct error_spans e;

	look_into(event, &e);
	fault_set(&out->fault, "TaskingAIError", (int)resp->status, "%s", "");
	read_error(is(e.error, JSON_OBJECT) || is(e.error, JSON_STRING) ? e.error : event, &out->fault);
	say_something(&out->fault);
	if (out->fault.code.len == 0)
		set_own_code(&out->fault, "protocol");
	judge(out, status_of(buf_cstr(&out->fault.code)));
}

static void read_stream_end(const struct call_stream *s, const struct http_response *resp, struct outcome *out)
{
	if (s->broken) {
		out->kind = OUTCOME_FAILED;
		fault_set(&out->fault, "TaskingAIError", (int)resp->status,
			  "an event of the stream holds no JSON object, or more than max_response_bytes");
		set_own_code(&out->fault, "protocol");
		return;
	}
	read_transport(resp, out);
	if (resp->end == HTTP_TIMED_OUT || resp->end == HTTP_TOO_LARGE)
		return;
	fault_set(&out->fault, "TaskingAIError", (int)resp->status, "the stream ended early%s: %s",
		  s->done ? ", though it said that it was done" : "",
		  resp->end == HTTP_ANSWERED ? "its last object never came" : resp->fault);
	set_own_code(&out->fault, "truncated");
	out->kind = OUTCOME_RETRY;
	out->fault.retryable = true;
}

/* The last object is the answer, whatever its pieces said, and whatever happened to the connection after it (8.2). */
static void read_stream(struct call_stream *s, const struct http_response *resp, struct outcome *out)
{
	struct span final;

	if (resp->end == HTTP_ANSWERED)
		stream_end(s);
	if (s->error.len > 0 && !s->error.failed) {
		read_stream_error(s, resp, out);
		return;
	}
	if (s->final.len == 0 || s->final.failed) {
		read_stream_end(s, resp, out);
		return;
	}
	final = (struct span){s->final.ptr, s->final.len};
	out->kind = OUTCOME_SUCCEEDED;
	buf_lit(&out->result, "{\"data\":");
	buf_add(&out->result, final.ptr, final.len);
	buf_char(&out->result, '}');
	count_tokens(out, (struct span){0}, final);
}

/* --- All of it. --------------------------------------------------------------------------------------------------------- */

void taskingai_read(struct job *job, struct call *call, const struct http_response *resp, struct outcome *out)
{
	if (resp->streamed)
		read_stream(&call->stream, resp, out);
	else if (resp->end != HTTP_ANSWERED)
		read_transport(resp, out);
	else if (resp->status == 200)
		read_success(job, resp, out);
	else
		read_failure(resp, out);
	if (out->kind != OUTCOME_SUCCEEDED && is_gone_already(job, call, resp, out)) {
		out->kind = OUTCOME_SUCCEEDED;
		buf_lit(&out->result, "{\"data\":null}");
	}
	if (out->kind == OUTCOME_SUCCEEDED && out->result.failed) {
		out->kind = OUTCOME_FAILED;
		fault_set(&out->fault, "TaskingAIError", (int)resp->status, "out of memory for a response of %zu bytes",
			  resp->body.len);
	}
}
