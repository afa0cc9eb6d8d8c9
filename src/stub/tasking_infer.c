/* SPDX-License-Identifier: MIT
 *
 * What TaskingAI infers: every answer follows from what was asked, so that a test knows it beforehand. A chat answers
 * with an echo; a text's vector is made of its words, so that texts with words in common are alike. */
#include <ctype.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "stub/tasking.h"
#include "stub/wrong.h"

#define TEXT_MAX (16UL * 1024 * 1024)
#define DIMENSIONS 8
#define LOCK_MS 120000
#define ASSISTANT_ID_LEN 24

/* --- Vectors. ---------------------------------------------------------------------------------------------- */

static void vector_of(const char *text, double v[DIMENSIONS])
{
	double length = 0;

	memset(v, 0, DIMENSIONS * sizeof *v);
	while (*text) {
		unsigned hash = 2166136261U;

		for (; *text && !isalnum((unsigned char)*text) && (unsigned char)*text < 0x80; text++)
			;
		for (; isalnum((unsigned char)*text) || (unsigned char)*text >= 0x80; text++)
			hash = (hash ^ (unsigned char)tolower((unsigned char)*text)) * 16777619U;
		v[hash % DIMENSIONS] += 1 + hash / DIMENSIONS % 3;
	}
	v[0] += 0.001;
	for (int i = 0; i < DIMENSIONS; i++)
		length += v[i] * v[i];
	for (int i = 0; i < DIMENSIONS; i++)
		v[i] /= sqrt(length);
}

double tasking_similarity(const char *a, const char *b)
{
	double x[DIMENSIONS], y[DIMENSIONS], sum = 0;

	vector_of(a, x);
	vector_of(b, y);
	for (int i = 0; i < DIMENSIONS; i++)
		sum += x[i] * y[i];
	return sum;
}

struct embedding {
	struct tasking *t;
	size_t n;
};

static void write_vector(void *ctx, struct span key, struct span value)
{
	struct embedding *e = ctx;
	struct buf text = BUF_INIT(TEXT_MAX), *out = &e->t->a->body;
	double v[DIMENSIONS];

	(void)key;
	(void)tasking_text(value, &text);
	vector_of(buf_cstr(&text), v);
	buf_printf(out, "%s{\"index\":%zu,\"embedding\":[", e->n ? "," : "", e->n);
	for (int i = 0; i < DIMENSIONS && !e->t->d.no_vectors; i++)
		buf_printf(out, "%s%.6f", i ? "," : "", v[i]);
	buf_lit(out, "]}");
	e->n++;
	buf_release(&text);
}

void tasking_embed(struct tasking *t)
{
	struct span input = tasking_member(t->body, "input");
	struct buf id = BUF_INIT(1000);
	const char *model = tasking_string(t->body, "model_id", &id);
	struct embedding e = {.t = t};

	if (strlen(model) != 8) {
		tasking_invalid(t, "body/model_id", "String should have 8 characters");
	} else if (!tasking_is(input, JSON_STRING) && !tasking_is(input, JSON_ARRAY)) {
		tasking_invalid(t, "body/input", "Input should be a valid string");
	} else if (tasking_model(model) == MODEL_UNKNOWN) {
		tasking_error(t, 404, "OBJECT_NOT_FOUND", "model %s not found", model);
	} else if (tasking_model(model) != MODEL_EMBEDDING) {
		t->d.message_object = true;
		tasking_error(t, 422, "REQUEST_VALIDATION_ERROR", "Model %s is not a text embedding model.", model);
	} else {
		tasking_open(t);
		buf_char(&t->a->body, '[');
		if (tasking_is(input, JSON_ARRAY))
			(void)json_elements(input, write_vector, &e);
		else
			write_vector(&e, (struct span){0}, input);
		buf_printf(&t->a->body, "],\"usage\":{\"input_tokens\":%zu}", 2 * e.n);
		tasking_close(t);
	}
	buf_release(&id);
}

struct ranked {
	size_t index;
	double score;
	struct span text;
};

struct ranking {
	struct ranked *all;
	size_t n;
	const char *query;
};

static void rank(void *ctx, struct span key, struct span value)
{
	struct ranking *r = ctx;
	struct ranked *more = realloc(r->all, (r->n + 1) * sizeof *more);
	struct buf text = BUF_INIT(TEXT_MAX);

	(void)key;
	if (!more)
		return;
	r->all = more;
	(void)tasking_text(value, &text);
	more[r->n] = (struct ranked){r->n, tasking_similarity(r->query, buf_cstr(&text)), value};
	r->n++;
	buf_release(&text);
}

static int by_relevance(const void *a, const void *b)
{
	double x = ((const struct ranked *)a)->score, y = ((const struct ranked *)b)->score;

	return x < y ? 1 : x > y ? -1 : 0;
}

void tasking_rerank(struct tasking *t)
{
	struct span documents = tasking_member(t->body, "documents");
	struct buf id = BUF_INIT(1000), query = BUF_INIT(TEXT_MAX);
	const char *model = tasking_string(t->body, "model_id", &id);
	struct ranking r = {.query = tasking_string(t->body, "query", &query)};
	int64_t top = 0;

	if (!tasking_is(tasking_member(t->body, "query"), JSON_STRING)) {
		tasking_invalid(t, "body/query", "Field required");
	} else if (!tasking_is(documents, JSON_ARRAY)) {
		tasking_invalid(t, "body/documents", "Field required");
	} else if (!json_span_int(tasking_member(t->body, "top_n"), &top) || top < 1) {
		tasking_invalid(t, "body/top_n", "Field required");
	} else if (tasking_model(model) != MODEL_RERANK) {
		tasking_error(t, 404, "OBJECT_NOT_FOUND", "model %s not found", model);
	} else {
		(void)json_elements(documents, rank, &r);
		if (r.all)
			qsort(r.all, r.n, sizeof *r.all, by_relevance);
		tasking_open(t);
		buf_lit(&t->a->body, "{\"results\":[");
		for (size_t i = 0; r.all && i < r.n && i < (size_t)top; i++) {
			buf_printf(&t->a->body, "%s{\"index\":%zu,\"document\":{\"text\":", i ? "," : "",
				   r.all[i].index);
			buf_add(&t->a->body, r.all[i].text.ptr, r.all[i].text.len);
			buf_printf(&t->a->body, "},\"relevance_score\":%.6f}", r.all[i].score);
		}
		buf_lit(&t->a->body, "]},\"usage\":{\"input_tokens\":5,\"output_tokens\":1}");
		tasking_close(t);
		free(r.all);
	}
	buf_release(&id);
	buf_release(&query);
}

/* --- Chat. ------------------------------------------------------------------------------------------------- */

struct conversation {
	struct tasking *t;
	struct buf last; /* of the user's texts */
	size_t n;
	const char *wrong; /* NULL: nothing */
	bool strange;	   /* an element that is no object: a fault within (3.8) */
};

static void hear(void *ctx, struct span key, struct span value)
{
	static const char *const roles[] = {"system", "user", "assistant", "function"};
	struct conversation *c = ctx;
	struct buf role = BUF_INIT(100);
	const char *name = tasking_string(value, "role", &role);
	struct span content = tasking_member(value, "content");
	bool known = false;

	(void)key;
	for (size_t i = 0; i < sizeof roles / sizeof *roles; i++)
		known = known || strcmp(name, roles[i]) == 0;
	c->strange = c->strange || !tasking_is(value, JSON_OBJECT);
	if (!known)
		c->wrong = "messages/role";
	else if (content.ptr && !tasking_is(content, JSON_STRING))
		c->wrong = "messages/content";
	else if (strcmp(name, "system") == 0 && c->n > 0)
		c->wrong = "messages";
	if (strcmp(name, "user") == 0 || strcmp(name, "function") == 0)
		(void)tasking_string(value, "content", &c->last);
	c->n++;
	buf_release(&role);
}

/* What is said in answer: what the directives want, else an echo, without what stands in stub(...). */
static void answer_text(struct tasking *t, const char *said, struct buf *out)
{
	size_t n;
	const char *list = directives_find(said, &n);

	if (t->d.say.ptr) {
		buf_add(out, t->d.say.ptr, t->d.say.len);
		return;
	}
	buf_lit(out, "Echo: ");
	if (!list) {
		buf_str_add(out, said);
		return;
	}
	buf_add(out, said, (size_t)(list - said) - (sizeof "stub(" - 1));
	buf_str_add(out, list + n + 1);
	while (out->len > 0 && out->ptr[out->len - 1] == ' ')
		buf_cut(out, out->len - 1);
}

static bool wants_call(struct tasking *t)
{
	struct span call = tasking_member(t->body, "function_call"), functions = tasking_member(t->body, "functions");

	return tasking_is(functions, JSON_ARRAY) && functions.len > 2 &&
	       (t->d.call || (tasking_is(call, JSON_STRING) && strncmp(call.ptr, "\"none\"", 6) != 0 &&
			      strncmp(call.ptr, "\"auto\"", 6) != 0));
}

static void write_completion(struct tasking *t, const char *text, const char *model, struct buf *out)
{
	struct span call = tasking_member(t->body, "function_call");
	bool calls = wants_call(t);

	buf_printf(out, "{\"object\":\"ChatCompletion\",\"finish_reason\":\"%s\",\"message\":{\"content\":",
		   calls ? "function_calls" : "stop");
	if (calls)
		buf_lit(out, "null");
	else
		buf_json_cstr(out, text);
	buf_lit(out, ",\"role\":\"assistant\",\"function_calls\":");
	if (calls) {
		buf_lit(out, "[{\"id\":\"P3lf00000000000000000001\",\"name\":");
		buf_add(out, call.ptr ? call.ptr : "\"f\"", call.ptr ? call.len : 3);
		buf_lit(out, ",\"arguments\":{\"a\":112,\"b\":22}}]");
	} else {
		buf_lit(out, "null");
	}
	buf_printf(out, "},\"created_timestamp\":%" PRId64 ",\"usage\":{\"input_tokens\":%zu,\"output_tokens\":%zu}",
		   clock_real_ms(), strlen(text) / 4 + 1, strlen(text) / 4 + 1);
	if (strlen(model) == 8 && !tasking_member(t->body, "stream").ptr)
		buf_lit(out, ",\"fallback_index\":null");
	buf_char(out, '}');
}

/* What the model service refuses comes back as an object in the message (3.4). */
static void refuse_inside(struct tasking *t, const char *text)
{
	answer_json(t->a, 422);
	buf_lit(&t->a->body,
		"{\"status\":\"error\",\"error\":{\"code\":\"REQUEST_VALIDATION_ERROR\",\"message\":{\"code\":"
		"\"REQUEST_VALIDATION_ERROR\",\"message\":");
	buf_json_cstr(&t->a->body, text);
	buf_lit(&t->a->body, ",\"debug\":\"stub\"}}}");
}

static bool is_streamed(struct tasking *t, const char *name)
{
	struct span v = tasking_member(t->body, name);

	return v.ptr && json_span_is_true(v);
}

static bool number_is_within(struct span object, const char *name, double min, double max)
{
	struct span v = tasking_member(object, name);

	return !v.ptr || (tasking_is(v, JSON_NUMBER) && strtod(v.ptr, NULL) >= min && strtod(v.ptr, NULL) <= max);
}

/* True: the answer is made. */
static bool completion_refused(struct tasking *t, const char *model, struct conversation *c)
{
	struct span messages = tasking_member(t->body, "messages"), configs = tasking_member(t->body, "configs"),
		    call = tasking_member(t->body, "function_call");
	bool assistant = strlen(model) == ASSISTANT_ID_LEN;

	if (!*model)
		tasking_invalid(t, "body/model_id", "Field required");
	else if (strlen(model) != 8 && !assistant)
		tasking_error(t, 422, "REQUEST_VALIDATION_ERROR", "Invalid model_id: %.60s", model);
	else if (!tasking_is(messages, JSON_ARRAY) || messages.len <= 2)
		tasking_invalid(t, "body/messages", "Field required");
	else if (call.ptr && !tasking_is(call, JSON_STRING))
		tasking_invalid(t, "body/function_call", "Input should be a valid string");
	else if (json_elements(messages, hear, c) != JSON_OK || c->strange)
		tasking_error(t, 500, "INTERNAL_SERVER_ERROR", "'str' object has no attribute 'get'");
	else if (c->wrong && strcmp(c->wrong, "messages") != 0) {
		char where[64];

		snprintf(where, sizeof where, "body/%s", c->wrong);
		tasking_invalid(t, where, "Input should be valid");
	} else if (assistant ? !store_find(t->stub->store, ASSISTANT, model) : tasking_model(model) == MODEL_UNKNOWN)
		tasking_error(t, 404, "OBJECT_NOT_FOUND", "%s %s not found", assistant ? "assistant" : "model", model);
	else if (!assistant && tasking_model(model) != MODEL_CHAT)
		refuse_inside(t, "The model is not a chat completion model.");
	else if (!assistant && is_streamed(t, "stream") && !tasking_can_stream(model))
		refuse_inside(t, "The model cannot stream.");
	else if (!tasking_can_call(model) && tasking_is(tasking_member(t->body, "functions"), JSON_ARRAY))
		tasking_error(t, 422, "REQUEST_VALIDATION_ERROR", "The model cannot call functions.");
	else if (c->wrong)
		refuse_inside(t, "A system message must be the first, and the only one.");
	else if (!number_is_within(configs, "temperature", 0, 1) || !number_is_within(configs, "max_tokens", 1, 8192))
		refuse_inside(t, "temperature or max_tokens does not conform to its range.");
	else
		return false;
	return true;
}

void tasking_complete(struct tasking *t)
{
	struct conversation c = {.t = t, .last = BUF_INIT(TEXT_MAX)};
	struct buf id = BUF_INIT(1000), text = BUF_INIT(TEXT_MAX), final = BUF_INIT(TEXT_MAX * 2);
	const char *model = tasking_string(t->body, "model_id", &id);

	if (!completion_refused(t, model, &c)) {
		answer_text(t, buf_cstr(&c.last), &text);
		write_completion(t, buf_cstr(&text), model, &final);
		if (is_streamed(t, "stream")) {
			tasking_stream(t, "ChatCompletionChunk", wants_call(t) ? "" : buf_cstr(&text), &final);
		} else {
			tasking_open(t);
			buf_add(&t->a->body, final.ptr, final.len);
			tasking_close(t);
		}
	}
	buf_release(&id);
	buf_release(&text);
	buf_release(&final);
	buf_release(&c.last);
}

/* --- Generation. ------------------------------------------------------------------------------------------- */

static void refuse_generation(struct tasking *t, bool streamed, const char *text)
{
	if (streamed)
		tasking_stream_error(t, "INVALID_REQUEST", text);
	else
		tasking_error(t, 400, "INVALID_REQUEST", "%s", text);
}

static bool is_role(const struct object *message, const char *role)
{
	struct span v = object_get(message, "role");

	return v.len == strlen(role) + 2 && memcmp(v.ptr + 1, role, v.len - 2) == 0;
}

void tasking_generate(struct tasking *t)
{
	bool debug = is_streamed(t, "debug"), streamed = is_streamed(t, "stream") || debug;
	struct object *o = NULL, *last = NULL, *made;
	struct buf said = BUF_INIT(TEXT_MAX), text = BUF_INIT(TEXT_MAX), final = BUF_INIT(TEXT_MAX * 2);
	int64_t now = clock_real_ms();

	while ((o = store_next(t->stub->store, MESSAGE, t->up, o)))
		last = o;
	if (t->up->locked_until_ms > now || t->d.locked) {
		t->up->locked_until_ms = 0; /* a second request releases the first one's lock (8.3) */
		refuse_generation(t, streamed, "Chat is locked by another generation process. Please try again later.");
	} else if (!last || is_role(last, "system")) {
		refuse_generation(t, streamed, "There is no user message in the chat context.");
	} else if (is_role(last, "assistant")) {
		refuse_generation(t, streamed, "Cannot generate another assistant message after an assistant message.");
	} else {
		(void)tasking_string(object_get(last, "content"), "text", &said);
		answer_text(t, buf_cstr(&said), &text);
		made = tasking_add_message(t, t->up, "assistant", buf_cstr(&text));
		if (made)
			tasking_write(&final, made, -2.0);
		if (streamed) {
			tasking_stream(t, debug && !is_streamed(t, "stream") ? "" : "MessageChunk", buf_cstr(&text),
				       &final);
		} else {
			tasking_open(t);
			buf_add(&t->a->body, final.ptr, final.len);
			tasking_close(t);
		}
	}
	buf_release(&said);
	buf_release(&text);
	buf_release(&final);
}
