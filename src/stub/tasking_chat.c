/* SPDX-License-Identifier: MIT
 *
 * What TaskingAI's chat models say: an echo of what was said to them, or what the directives want, so that a test knows
 * it beforehand. Chat completion, and generation in a stored chat. */
#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "stub/tasking.h"
#include "stub/wishes.h"
#include "stub/wrong.h"

#define LOCK_MS 120000
#define MODEL_ID_LEN 8
#define ASSISTANT_ID_LEN 24
#define CALLS_MAX 32 /* of functions in one message */
#define ANSWER_MAX (4 * TASKING_TEXT_MAX)
#define CALL_ID "P3lf00000000000000000001"
#define SESSION_ID "D9Js00000000000000000001"

#define LAST                                                                                                           \
	{                                                                                                              \
		NULL, TEXT, OPTIONAL, 0, 0, NULL, NULL                                                                 \
	}

/* 6.3 */
static const struct field property_table[] = {{"type", TEXT, REQUIRED, 0, 0, "string number integer boolean array",
					       NULL},
					      {"description", TEXT, OPTIONAL, 0, 512, NULL, NULL},
					      {"enum", ARRAY, OPTIONAL, 0, 0, NULL, NULL},
					      {"items", OBJECT, OPTIONAL, 0, 0, NULL, NULL},
					      LAST};
static const struct field parameters_table[] = {{"type", TEXT, REQUIRED, 0, 0, "object", NULL},
						{"properties", BY_NAME, REQUIRED, 0, 0, NULL, property_table},
						{"required", ARRAY, OPTIONAL, 0, 0, NULL, NULL},
						LAST};
static const struct field function_table[] = {{"name", TEXT, REQUIRED, 1, 0, NULL, NULL},
					      {"description", TEXT, REQUIRED, 0, 0, NULL, NULL},
					      {"parameters", OBJECT, REQUIRED, 0, 0, NULL, parameters_table},
					      LAST};
const struct field tasking_completion_fields[] = {{"model_id", TEXT, REQUIRED, 1, 50, NULL, NULL},
						  {"messages", ARRAY, REQUIRED, 1, 0, NULL, NULL},
						  {"configs", OBJECT, OPTIONAL, 0, 0, NULL, NULL},
						  {"stream", BOOLEAN, OPTIONAL, 0, 0, NULL, NULL},
						  {"function_call", TEXT, OPTIONAL, 0, 0, NULL, NULL},
						  {"functions", ARRAY, OPTIONAL, 0, 0, NULL, function_table},
						  LAST};
const struct field tasking_generate_fields[] = {{"system_prompt_variables", BY_NAME, OPTIONAL, 0, 16, NULL, NULL},
						{"stream", BOOLEAN, OPTIONAL, 0, 0, NULL, NULL},
						{"debug", BOOLEAN, OPTIONAL, 0, 0, NULL, NULL},
						LAST};

/* 6.2 */
static const struct field one_stop[] = {{"", TEXT, OPTIONAL, 1, 100, NULL, NULL}};
static const struct field config_table[] = {{"temperature", NUMBER, OPTIONAL, 0, 1, NULL, NULL},
					    {"top_p", NUMBER, OPTIONAL, 0, 1, NULL, NULL},
					    {"top_k", INTEGER, OPTIONAL, 0, 10, NULL, NULL},
					    {"max_tokens", INTEGER, OPTIONAL, 1, 8192, NULL, NULL},
					    {"stop", ARRAY, OPTIONAL, 0, 4, NULL, one_stop},
					    {"presence_penalty", NUMBER, OPTIONAL, 0, 1, NULL, NULL},
					    {"frequency_penalty", NUMBER, OPTIONAL, 0, 1, NULL, NULL},
					    {"seed", INTEGER, OPTIONAL, 0, 4294967295.0, NULL, NULL},
					    {"response_format", TEXT, OPTIONAL, 0, 0, "text json_object", NULL},
					    LAST};

/* --- What was said. ---------------------------------------------------------------------------------------- */

enum role { NO_ROLE, SYSTEM, USER, ASSISTANT_ROLE, FUNCTION };

struct conversation {
	struct buf said; /* last, by the user or a function */
	enum role last;
	size_t n, kept; /* messages with something in them */
	struct span open[CALLS_MAX];
	size_t nopen;	   /* calls that have no answer yet */
	bool called;	   /* there was one */
	const char *wrong; /* to the model service; NULL: nothing */
};

static enum role role_of(struct span message)
{
	static const char *const names[] = {
		[SYSTEM] = "system", [USER] = "user", [ASSISTANT_ROLE] = "assistant", [FUNCTION] = "function"};
	struct span role = tasking_member(message, "role");

	for (size_t i = SYSTEM; i < sizeof names / sizeof *names; i++)
		if (tasking_says(role, names[i]))
			return (enum role)i;
	return NO_ROLE;
}

static void complain(struct conversation *c, const char *wrong)
{
	if (!c->wrong)
		c->wrong = wrong;
}

static void open_call(void *ctx, struct span key, struct span call)
{
	struct conversation *c = ctx;
	struct span id = tasking_member(call, "id");

	(void)key;
	if (!tasking_is(id, JSON_STRING) || c->nopen == CALLS_MAX)
		complain(c, "A function call needs an id.");
	else
		c->open[c->nopen++] = id;
	c->called = true;
}

static void close_call(struct conversation *c, struct span id)
{
	for (size_t i = 0; id.ptr && i < c->nopen; i++) {
		if (c->open[i].len != id.len || memcmp(c->open[i].ptr, id.ptr, id.len) != 0)
			continue;
		c->open[i] = c->open[--c->nopen];
		return;
	}
	complain(c, "A function message needs a function call with its id before it.");
}

/* Neighbours of one role are one message. */
static void say(struct conversation *c, enum role role, struct span content)
{
	if (role == USER && c->last == USER)
		buf_lit(&c->said, "\n\n");
	else if (role == USER || role == FUNCTION)
		buf_clear(&c->said);
	if (role == USER || role == FUNCTION)
		(void)tasking_text(content, &c->said);
	c->last = role;
}

/* The model service's rules (6.1). */
static void hear(void *ctx, struct span key, struct span message)
{
	struct conversation *c = ctx;
	struct span content = tasking_member(message, "content"), calls = tasking_member(message, "function_calls");
	enum role role = role_of(message);
	bool calling = role == ASSISTANT_ROLE && tasking_is(calls, JSON_ARRAY) && calls.len > 2;

	(void)key;
	if (role == SYSTEM && c->n > 0)
		complain(c, "A system message must be the first, and the only one.");
	c->n++;
	if (content.len <= 2 && !calling) /* nothing is in it */
		return;
	c->kept++;
	if (role == FUNCTION) {
		close_call(c, tasking_member(message, "id"));
	} else if (c->nopen > 0) {
		complain(c, "A function call needs its function message before anything else.");
	} else if (calling) {
		(void)json_elements(calls, open_call, c);
	} else if (c->called) {
		complain(c, "No text may follow a function call.");
	}
	say(c, role, content);
}

static void listen(struct tasking *t, struct conversation *c)
{
	(void)json_elements(tasking_member(t->body, "messages"), hear, c);
	if (c->nopen > 0)
		complain(c, "A function call has no function message.");
	if (c->kept == 0)
		complain(c, "There is no message with something in it.");
}

/* --- What is said in answer. ------------------------------------------------------------------------------- */

/* What the directives want, else an echo, without what stands in stub(...). */
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

static size_t estimate(const char *text)
{
	return strlen(text) / 4 + 1;
}

/* The final text has no white space around it, whatever its pieces had. */
static void write_text(struct tasking *t, struct buf *out, const char *text)
{
	static const char blanks[] = " \t\r\n";
	size_t n = strlen(text), from = strspn(text, blanks);

	while (n > from && strchr(blanks, text[n - 1]))
		n--;
	buf_json_string(out, text + from, n - from);
	if (!t->d.slip)
		return;
	buf_cut(out, out->len - 1);
	buf_str_add(out, t->d.slip);
	buf_char(out, '"');
}

/* --- Calls of functions. ----------------------------------------------------------------------------------- */

struct choice {
	struct span name;     /* which is wanted; ptr NULL: the first */
	struct span function; /* found */
};

static void find_function(void *ctx, struct span key, struct span function)
{
	struct choice *c = ctx;
	struct span name = tasking_member(function, "name");

	(void)key;
	if (!c->function.ptr &&
	    (!c->name.ptr || (name.len == c->name.len && name.ptr && memcmp(name.ptr, c->name.ptr, name.len) == 0)))
		c->function = function;
}

/* False: no function is called. */
static bool choose_function(struct tasking *t, struct choice *c)
{
	struct span call = tasking_member(t->body, "function_call"), functions = tasking_member(t->body, "functions");
	bool named = tasking_is(call, JSON_STRING) && !tasking_says(call, "none") && !tasking_says(call, "auto");

	*c = (struct choice){.name = named ? call : (struct span){0}};
	if (!tasking_is(functions, JSON_ARRAY) || (!named && !t->d.call))
		return false;
	(void)json_elements(functions, find_function, c);
	return c->function.ptr;
}

struct arguments {
	struct buf *out;
	const char *said; /* numbers are taken from it, one after another */
};

static const char *next_digits(const char *s)
{
	while (*s && !isdigit((unsigned char)*s))
		s++;
	return s;
}

static void write_argument(void *ctx, struct span key, struct span property)
{
	struct arguments *a = ctx;
	struct span type = tasking_member(property, "type");

	buf_printf(a->out, "%s\"%.*s\":", a->out->ptr[a->out->len - 1] == '{' ? "" : ",", (int)key.len, key.ptr);
	if (tasking_says(type, "integer") || tasking_says(type, "number")) {
		const char *digits = next_digits(a->said);
		size_t n = strspn(digits, "0123456789");

		buf_int(a->out, n > 0 && n < 19 ? strtoll(digits, NULL, 10) : 0);
		a->said = digits + n;
	} else if (tasking_says(type, "boolean")) {
		buf_lit(a->out, "true");
	} else if (tasking_says(type, "array")) {
		buf_lit(a->out, "[]");
	} else {
		buf_json_cstr(a->out, a->said);
	}
}

static void write_call(struct buf *out, struct span function, const char *said)
{
	struct span name = tasking_member(function, "name"),
		    properties = tasking_member(tasking_member(function, "parameters"), "properties");
	struct arguments a = {out, said};

	buf_lit(out, "[{\"id\":\"" CALL_ID "\",\"name\":");
	buf_add(out, name.ptr, name.len);
	buf_lit(out, ",\"arguments\":{");
	(void)json_scan(properties.ptr, properties.len, NULL, write_argument, &a);
	buf_lit(out, "}}]");
}

/* --- Chat completion. -------------------------------------------------------------------------------------- */

static bool is_assistant(const char *model)
{
	return strlen(model) == ASSISTANT_ID_LEN;
}

struct syntax {
	const char *where, *text;
	bool strange; /* an element that is no object: a fault within (3.8) */
};

static void check_message(void *ctx, struct span key, struct span message)
{
	struct syntax *s = ctx;
	struct span content = tasking_member(message, "content");

	(void)key;
	s->strange = s->strange || !tasking_is(message, JSON_OBJECT);
	if (s->where || s->strange)
		return;
	if (role_of(message) == NO_ROLE) {
		s->where = "body/messages/role";
		s->text = "Input should be 'system', 'user', 'assistant' or 'function'";
	} else if (content.ptr && !tasking_is(content, JSON_STRING)) {
		s->where = "body/messages/content";
		s->text = "Input should be a valid string";
	}
}

bool tasking_check_completion(struct tasking *t)
{
	struct buf id = BUF_INIT(1000);
	const char *model = tasking_string(t->body, "model_id", &id);
	struct syntax s = {NULL, NULL, false};
	bool good = false;

	(void)json_elements(tasking_member(t->body, "messages"), check_message, &s);
	if (strlen(model) != MODEL_ID_LEN && !is_assistant(model))
		tasking_refuse(t, "Invalid model_id: %.60s", model);
	else if (s.strange)
		tasking_error(t, 500, "INTERNAL_SERVER_ERROR", "'str' object has no attribute 'get'");
	else if (s.where)
		tasking_invalid(t, s.where, "%s", s.text);
	else
		good = true;
	buf_release(&id);
	return good;
}

/* An assistant's failure comes within a stream, if one was wanted, and hides what the service said (6.5). */
static void refuse_service(struct tasking *t, bool assistant, const char *text)
{
	struct tasking_events e = {.code = "GENERATION_ERROR", .message = text};

	if (!assistant)
		tasking_refuse_inside(t, text);
	else if (tasking_true(t->body, "stream"))
		tasking_stream(t, &e);
	else
		tasking_error(t, 500, "GENERATION_ERROR", "%s", text);
}

/* NULL, or what the model service says against it. */
static const char *service_refuses(struct tasking *t, const char *model, bool assistant, const struct conversation *c,
				   struct complaint *complaint)
{
	struct span configs = tasking_member(t->body, "configs");

	if (!assistant && tasking_model(model) != MODEL_CHAT)
		return "The model is not a chat completion model.";
	if (!assistant && tasking_true(t->body, "stream") && !tasking_can_stream(model))
		return "The model cannot stream.";
	if (c->wrong)
		return c->wrong;
	if (!assistant && configs.ptr && !schema_fits(configs, config_table, 0, "configs", complaint)) {
		size_t n = strlen(complaint->where);

		snprintf(complaint->where + n, sizeof complaint->where - n, " does not conform: %s", complaint->text);
		return complaint->where;
	}
	return NULL;
}

/* True: the answer is made. */
static bool completion_refused(struct tasking *t, const char *model, const struct conversation *c)
{
	bool assistant = is_assistant(model);
	struct object *o = assistant ? store_find(t->stub->store, ASSISTANT, model) : NULL;
	struct buf id = BUF_INIT(1000);
	struct complaint complaint;
	const char *wrong;
	bool refused = true;

	if (o)
		(void)tasking_text(object_get(o, "model_id"), &id);
	if (assistant ? !o : tasking_model(model) == MODEL_UNKNOWN)
		tasking_unknown(t, assistant ? "assistant" : "model", model);
	else if (tasking_member(t->body, "functions").ptr && !tasking_can_call(o ? buf_cstr(&id) : model))
		tasking_refuse(t, "Model %s cannot call functions.", o ? buf_cstr(&id) : model);
	else if (o && tasking_true(t->body, "stream") && !tasking_can_stream(buf_cstr(&id)))
		tasking_stream(t, &(struct tasking_events){.code = "INVALID_REQUEST",
							   .message = "The model cannot stream."});
	else if ((wrong = service_refuses(t, model, assistant, c, &complaint)))
		refuse_service(t, assistant, wrong);
	else
		refused = false;
	buf_release(&id);
	return refused;
}

static void write_completion(struct tasking *t, const char *text, const struct conversation *c, bool assistant,
			     struct buf *out)
{
	struct span messages = tasking_member(t->body, "messages");
	struct choice choice;
	bool calls = choose_function(t, &choice);

	buf_printf(out, "{\"object\":\"ChatCompletion\",\"finish_reason\":\"%s\",\"message\":{\"content\":",
		   calls ? "function_calls" : "stop");
	if (calls)
		buf_lit(out, "null");
	else
		write_text(t, out, text);
	buf_lit(out, ",\"role\":\"assistant\",\"function_calls\":");
	if (calls)
		write_call(out, choice.function, buf_cstr(&c->said));
	else
		buf_lit(out, "null");
	buf_printf(out, "},\"created_timestamp\":%" PRId64 ",\"usage\":{\"input_tokens\":%zu,\"output_tokens\":%zu}",
		   clock_real_ms(), messages.len / 8 + 1, estimate(text));
	if (!assistant && (calls || !tasking_true(t->body, "stream"))) /* in a stream only if it is alone there */
		buf_lit(out, ",\"fallback_index\":null");
	buf_char(out, '}');
}

void tasking_complete(struct tasking *t)
{
	struct conversation c = {.said = BUF_INIT(TASKING_TEXT_MAX)};
	struct buf id = BUF_INIT(1000), text = BUF_INIT(TASKING_TEXT_MAX), final = BUF_INIT(ANSWER_MAX);
	const char *model = tasking_string(t->body, "model_id", &id);
	struct tasking_events e = {.object = "ChatCompletionChunk", .final = &final};
	struct choice choice;

	listen(t, &c);
	if (!completion_refused(t, model, &c)) {
		answer_text(t, buf_cstr(&c.said), &text);
		write_completion(t, buf_cstr(&text), &c, is_assistant(model), &final);
		e.text = choose_function(t, &choice) ? "" : buf_cstr(&text);
		if (tasking_true(t->body, "stream"))
			tasking_stream(t, &e);
		else
			tasking_show(t, &final);
	}
	buf_release(&id);
	buf_release(&text);
	buf_release(&final);
	buf_release(&c.said);
}

/* --- Generation. ------------------------------------------------------------------------------------------- */

/* A generation fails within its stream, if it has one (8.3). */
static void fail(struct tasking *t, bool streams, int status, const char *code, const char *text)
{
	if (streams)
		tasking_stream(t, &(struct tasking_events){.code = code, .message = text});
	else
		tasking_error(t, status, code, "%s", text);
}

/* NULL, or what stands against it. */
static const char *generation_refused(struct tasking *t, bool streams)
{
	struct object *chat = t->up, *last = NULL;
	struct buf model = BUF_INIT(1000);
	const char *wrong = NULL;
	bool user = false;

	for (struct object *o = NULL; (o = tasking_next_message(t, chat, o)); last = o)
		user = user || tasking_says(object_get(o, "role"), "user");
	(void)tasking_text(object_get(chat->parent, "model_id"), &model);
	if (chat->locked_until_ms > clock_real_ms() || t->d.locked)
		wrong = "Chat is locked by another generation process. Please try again later.";
	else if (last && tasking_says(object_get(last, "role"), "assistant"))
		wrong = "Cannot generate another assistant message after an assistant message.";
	else if (!user)
		wrong = "There is no user message in the chat context.";
	else if (streams && tasking_true(t->body, "stream") && !tasking_can_stream(buf_cstr(&model)))
		wrong = "The model cannot stream.";
	if (chat->locked_until_ms > 0) /* a request that is refused releases the first one's lock, too (8.3) */
		chat->locked_until_ms = 0;
	buf_release(&model);
	return wrong;
}

static void add_log(struct buf *out, const char *event, int number, const char *step, const struct buf *content)
{
	buf_printf(out,
		   "{\"object\":\"MessageGenerationLog\",\"session_id\":\"" SESSION_ID
		   "\",\"event\":\"%s\",\"event_id\":"
		   "\"E5dK%020d\",\"event_step\":\"%s\",\"timestamp\":%" PRId64 ",\"content\":%s}\n",
		   event, number, step, clock_real_ms(), buf_cstr(content));
}

/* Pairs of events: of the retrieval, where the assistant has any, and of the model. */
static void write_logs(struct tasking *t, const char *said, const char *text, struct buf *before, struct buf *after)
{
	const struct object *assistant = t->up->parent;
	struct span retrievals = object_get(assistant, "retrievals"), model = object_get(assistant, "model_id");
	struct buf json = BUF_INIT(ANSWER_MAX), head = BUF_INIT(ANSWER_MAX);

	if (retrievals.len > 2) {
		buf_lit(&json, "{\"query_text\":");
		buf_json_cstr(&json, said);
		buf_lit(&json, ",\"top_k\":3}");
		add_log(before, "retrieval", 1, "input", &json);
		buf_clear(&json);
		buf_lit(&json, "{\"result\":[]}");
		add_log(before, "retrieval", 1, "output", &json);
		buf_clear(&json);
	}
	buf_printf(&head,
		   "{\"model_id\":%.*s,\"model_schema_id\":\"stub/echo\",\"provider_model_id\":\"echo\","
		   "\"messages\":[{\"role\":\"user\",\"content\":",
		   (int)model.len, model.ptr);
	buf_json_cstr(&head, said);
	buf_lit(&head, "}],\"functions\":[]");
	buf_printf(&json, "%s}", buf_cstr(&head));
	add_log(before, "chat_completion", 2, "input", &json);
	buf_clear(&json);
	buf_printf(&json, "%s,\"message\":{\"role\":\"assistant\",\"content\":", buf_cstr(&head));
	buf_json_cstr(&json, text);
	buf_printf(&json, "},\"usage\":{\"input_tokens\":%zu,\"output_tokens\":%zu}}", estimate(said), estimate(text));
	add_log(after, "chat_completion", 2, "output", &json);
	buf_release(&json);
	buf_release(&head);
}

/* The window's missing size is found out when the reply has been stored (3.8). */
static bool window_is_broken(const struct tasking *t)
{
	struct span memory = object_get(t->up->parent, "memory");

	return !t->stub->hosted && tasking_says(tasking_member(memory, "type"), "message_window") &&
	       !tasking_member(memory, "max_tokens").ptr;
}

/* The message is there for others when its answer is over. */
static struct object *begin_message(struct tasking *t, const char *text)
{
	struct buf stripped = BUF_INIT(ANSWER_MAX), plain = BUF_INIT(ANSWER_MAX);
	struct object *o;

	write_text(t, &stripped, text);
	(void)tasking_text((struct span){buf_cstr(&stripped), stripped.len}, &plain);
	o = tasking_add_message(t, t->up, "assistant", t->d.slip ? text : buf_cstr(&plain));
	buf_release(&stripped);
	buf_release(&plain);
	if (!o)
		return NULL;
	o->pending = true;
	t->chat = t->up;
	t->chat->locked_until_ms = clock_real_ms() + LOCK_MS;
	t->message = o;
	return o;
}

static void generate(struct tasking *t, const char *said, bool streams)
{
	bool debug = tasking_true(t->body, "debug");
	struct buf text = BUF_INIT(ANSWER_MAX), final = BUF_INIT(ANSWER_MAX), before = BUF_INIT(ANSWER_MAX),
		   after = BUF_INIT(ANSWER_MAX);
	struct tasking_events e = {.object = tasking_true(t->body, "stream") ? "MessageChunk" : NULL, .final = &final};
	struct object *made;

	answer_text(t, said, &text);
	made = begin_message(t, buf_cstr(&text));
	if (made && window_is_broken(t)) {
		made->pending = false;
		t->message = NULL;
		e = (struct tasking_events){.object = e.object,
					    .text = buf_cstr(&text),
					    .code = "UNKNOWN_ERROR",
					    .message = ""};
	}
	if (made)
		tasking_write(t, &final, made, NULL);
	if (debug)
		write_logs(t, said, buf_cstr(&text), &before, &after);
	e.text = buf_cstr(&text);
	e.before = &before;
	e.after = &after;
	if (made && streams)
		tasking_stream(t, &e);
	else if (made && e.code)
		tasking_error(t, 500, "INTERNAL_SERVER_ERROR",
			      "unsupported operand type(s) for -: 'NoneType' and 'int'");
	else if (made)
		tasking_show(t, &final);
	buf_release(&text);
	buf_release(&final);
	buf_release(&before);
	buf_release(&after);
}

/* The last text that was said; what it asks for is done now. */
static const char *hear_last(struct tasking *t)
{
	for (struct object *o = NULL; (o = tasking_next_message(t, t->up, o));)
		if (tasking_says(object_get(o, "role"), "user"))
			(void)tasking_string(object_get(o, "content"), "text", &t->said);
	wishes_in(t->stub, t->r, buf_cstr(&t->said), &t->d);
	return buf_cstr(&t->said);
}

void tasking_generate(struct tasking *t)
{
	bool streams = tasking_true(t->body, "stream") || tasking_true(t->body, "debug");
	const char *said = hear_last(t), *wrong;

	if (tasking_goes_wrong(t))
		return;
	wrong = generation_refused(t, streams);
	if (wrong)
		fail(t, streams, 400, "INVALID_REQUEST", wrong);
	else
		generate(t, said, streams);
}
