/* SPDX-License-Identifier: MIT
 *
 * See job.h. One row per field: name, kind, range. One row per type: which of the fields it reads. A field that the job's type does not
 * read is an unknown field: kept and ignored. */
#include "job/job.h"

#include <stdio.h>
#include <string.h>

#include "base/utf8.h"
#include "job/operation.h"

#define QUOTE_MAX 60		     /* bytes of the producer's value in a message */
#define NAME_MAX_BYTES 32	     /* longer keys are none of ours */
#define ARENA_MAX (1UL << 30)	     /* decoded strings are never longer than the payload, which is bounded */
#define ATTEMPT_DIGITS 7	     /* of its largest value */
#define BILLED_BYTES 160	     /* of four counts with their names */
#define TIME_MAX_MS 9007199254740992 /* 2^53: what every producer's numbers hold exactly */

enum kind {
	ID,
	TEXT,
	NAME,
	INTEGER,
	SWITCH,
	CHOICE,
	OBJECT,
	OURS /* only workers write it; unreadable, it is ignored */
};

struct field_rule {
	const char *name;
	enum kind kind;
	int64_t min, max;    /* of an INTEGER; max also the most bytes of a NAME, 0: no bound of its own */
	const char *choices; /* CHOICE: words between '|' */
};

static const struct field_rule rules[JOB_FIELDS] = {
	[JOB_ID] = {"id", ID, 0, 0, NULL},
	[JOB_TYPE] = {"type", NAME, 0, 0, NULL},
	[JOB_REPLY] = {"reply", ID, 0, 0, NULL},
	[JOB_TIMEOUT_MS] = {"timeout_ms", INTEGER, 1, 3600000, NULL},
	[JOB_MAX_ATTEMPTS] = {"max_attempts", INTEGER, 1, 100, NULL},
	[JOB_NOT_BEFORE_MS] = {"not_before_ms", INTEGER, 0, TIME_MAX_MS, NULL},
	[JOB_EXPIRES_AT_MS] = {"expires_at_ms", INTEGER, 0, TIME_MAX_MS, NULL},
	[JOB_RESULT_TTL_S] = {"result_ttl_s", INTEGER, 1, 31536000, NULL},
	[JOB_IF_UNSURE] = {"if_unsure", CHOICE, 0, 0, "rerun|hold"},
	[JOB_CACHE] = {"cache", SWITCH, 0, 0, NULL},
	[JOB_TRACEPARENT] = {"traceparent", NAME, 0, 256, NULL},
	[JOB_ENQUEUED_AT_MS] = {"enqueued_at_ms", INTEGER, 0, TIME_MAX_MS, NULL},
	[JOB_ATTEMPT] = {"attempt", INTEGER, 0, 1000000, NULL},
	[JOB_BILLED] = {"billed", OURS, 0, 0, NULL},
	[JOB_TEXT] = {"text", TEXT, 0, 0, NULL},
	[JOB_LANGUAGE_PAIR] = {"language_pair", NAME, 0, 0, NULL},
	[JOB_AUDIO_PATH] = {"audio_path", NAME, 0, 0, NULL},
	[JOB_AUDIO_KEY] = {"audio_key", NAME, 0, 0, NULL},
	[JOB_AUDIO_URL] = {"audio_url", NAME, 0, 0, NULL},
	[JOB_AUDIO_BASE64] = {"audio_base64", TEXT, 0, 0, NULL},
	[JOB_LANGUAGE] = {"language", NAME, 0, 0, NULL},
	[JOB_TIMESTAMPS] = {"timestamps", NAME, 0, 0, NULL},
	[JOB_SPEAKER] = {"speaker", NAME, 0, 0, NULL},
	[JOB_FORMAT] = {"format", CHOICE, 0, 0, "wav|mp3|ogg"},
	[JOB_OUTPUT] = {"output", CHOICE, 0, 0, "key|base64|path"},
	[JOB_OUTPUT_PATH] = {"output_path", NAME, 0, 0, NULL},
	[JOB_PARAMS] = {"params", OBJECT, 0, 0, NULL},
};

#define BIT(f) (1ULL << (f))
#define COMMON_FIELDS (BIT(JOB_TEXT) - 1) /* all before the first of single types */
#define AUDIO_SOURCES (BIT(JOB_AUDIO_PATH) | BIT(JOB_AUDIO_KEY) | BIT(JOB_AUDIO_URL) | BIT(JOB_AUDIO_BASE64))

static const struct job_type types[JOB_TASKINGAI] = {
	[JOB_TRANSLATE] = {JOB_TRANSLATE, "translate", "khaya", BIT(JOB_TEXT) | BIT(JOB_LANGUAGE_PAIR), 30000},
	[JOB_TRANSCRIBE] = {JOB_TRANSCRIBE, "transcribe", "khaya",
			    AUDIO_SOURCES | BIT(JOB_LANGUAGE) | BIT(JOB_TIMESTAMPS), 600000},
	[JOB_SYNTHESIZE] = {JOB_SYNTHESIZE, "synthesize", "khaya",
			    BIT(JOB_TEXT) | BIT(JOB_LANGUAGE) | BIT(JOB_SPEAKER) | BIT(JOB_FORMAT) | BIT(JOB_OUTPUT) |
				    BIT(JOB_OUTPUT_PATH),
			    600000},
};

const char *job_kind_service(enum job_kind kind)
{
	return kind == JOB_TASKINGAI ? "taskingai" : types[kind].service;
}

const struct job_type *job_type_find(const char *name, size_t len)
{
	const struct operation *op;

	for (size_t i = 0; i < JOB_TASKINGAI; i++)
		if (strlen(types[i].name) == len && memcmp(types[i].name, name, len) == 0)
			return &types[i];
	op = operation_find(name, len);
	return op ? &op->type : NULL;
}

const struct job_type *job_type_at(size_t i)
{
	const struct operation *op;

	if (i < JOB_TASKINGAI)
		return &types[i];
	op = operation_at(i - JOB_TASKINGAI);
	return op ? &op->type : NULL;
}

size_t job_type_index(const struct job_type *type)
{
	if (type->kind != JOB_TASKINGAI)
		return (size_t)(type - types);
	return JOB_TASKINGAI + (size_t)((const struct operation *)(const void *)type - operation_at(0));
}

/* --- Collecting the spans. ---------------------------------------------------------------------------------------------- */

static void collect(void *ctx, struct span key, struct span value)
{
	struct job *job = ctx;
	struct buf plain = BUF_INIT(NAME_MAX_BYTES);

	/* Decoded once, not once per field: a payload may be full of such keys. What comes out may have backslashes of its own. */
	if (memchr(key.ptr, '\\', key.len)) {
		json_span_string((struct span){key.ptr - 1, key.len + 2}, &plain);
		key = (struct span){buf_cstr(&plain), plain.failed ? 0 : plain.len};
	}
	for (size_t f = 0; f < JOB_FIELDS; f++) {
		/* Nearly all differ in the first byte. */
		if (key.len == 0 || *rules[f].name != *key.ptr || strlen(rules[f].name) != key.len ||
		    memcmp(key.ptr, rules[f].name, key.len) != 0)
			continue;
		/* The last of several counts, as in most readers; null is absent. */
		job->field[f] = json_span_type(value) == JSON_NULL ? (struct span){0} : value;
		break;
	}
	buf_release(&plain);
}

static bool is_id(const char *s, size_t n)
{
	if (n < 1 || n > JOB_ID_MAX)
		return false;
	for (size_t i = 0; i < n; i++) {
		char c = s[i];

		if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' ||
		      c == '_' || c == ':' || c == '-'))
			return false;
	}
	return true;
}

/* Decodes an id-like field into out ("" when it is none). An id with escapes is rare but legal. */
static bool read_id(struct span v, char out[JOB_ID_MAX + 1])
{
	struct buf plain = BUF_INIT(JOB_ID_MAX);
	bool ok = false;

	out[0] = '\0';
	if (!v.ptr || json_span_type(v) != JSON_STRING)
		return false;
	if (!memchr(v.ptr, '\\', v.len))
		ok = is_id(v.ptr + 1, v.len - 2) && memcpy(out, v.ptr + 1, v.len - 2) && (out[v.len - 2] = '\0', true);
	else if (json_span_string(v, &plain) && !plain.failed && is_id(buf_cstr(&plain), plain.len))
		ok = memcpy(out, plain.ptr, plain.len + 1) != NULL;
	buf_release(&plain);
	return ok;
}

/* --- Checks. ------------------------------------------------------------------------------------------------------------ */

/* What the producer wrote, cut so that a message stays readable. */
static int shown(struct span v)
{
	size_t n = utf8_cut(v.ptr, v.len, QUOTE_MAX);

	return (int)(utf8_valid(v.ptr, n) ? n : 0);
}

static int refuse(struct fault *fault, const struct job *job, const char *what, const char *expected, enum job_field f)
{
	struct span v = job->field[f];

	fault_set(fault, "InvalidJobError", 0, "field '%s' %s %s, got %.*s%s", rules[f].name, what, expected, shown(v),
		  v.ptr, v.len > QUOTE_MAX ? "…" : "");
	return -1;
}

static bool is_choice(const char *value, const char *choices)
{
	for (const char *word = choices; word; word = strchr(word, '|') ? strchr(word, '|') + 1 : NULL) {
		size_t n = strcspn(word, "|");

		if (strlen(value) == n && memcmp(value, word, n) == 0)
			return true;
	}
	return false;
}

/* Room for all strings at once, so that none moves while somebody holds it. A decoded one is never longer than its span. */
static void make_room(struct job *job)
{
	size_t n = 0;

	for (size_t f = 0; f < JOB_FIELDS; f++)
		if (job->field[f].ptr && json_span_type(job->field[f]) == JSON_STRING)
			n += job->field[f].len;
	buf_reserve(&job->arena, n);
}

static int decode(struct job *job, enum job_field f)
{
	struct span v = job->field[f];
	size_t at = job->arena.len;

	if (!job->arena.ptr)
		make_room(job);
	if (memchr(v.ptr, '\\', v.len)) {
		if (!json_span_string(v, &job->arena))
			return -1;
	} else {
		buf_add(&job->arena, v.ptr + 1, v.len - 2);
	}
	buf_char(&job->arena, '\0');
	if (job->arena.failed)
		return -1;
	job->strings[f] = at + 1;
	return 0;
}

static int check_string(struct job *job, enum job_field f, struct fault *fault)
{
	struct span v = job->field[f];

	if (json_span_type(v) != JSON_STRING)
		return refuse(fault, job, "must be", "a string", f);
	if (memchr(v.ptr, '\\', v.len) && json_span_has_nul(v))
		return refuse(fault, job, "must not contain", "the character U+0000", f);
	/* Texts may be long and are passed on as they are: decoded only where somebody asks. */
	if (rules[f].kind == TEXT && !memchr(v.ptr, '\\', v.len))
		return 0;
	if (decode(job, f) == 0)
		return 0;
	return job->arena.failed ? refuse(fault, job, "cannot be read:", "out of memory", f)
				 : refuse(fault, job, "must be", "Unicode text without lone surrogates", f);
}

static int check_name(struct job *job, enum job_field f, struct fault *fault)
{
	char expected[48];

	if (check_string(job, f, fault))
		return -1;
	if (rules[f].max == 0 || strlen(job_string(job, f, "")) <= (size_t)rules[f].max)
		return 0;
	snprintf(expected, sizeof expected, "a string of at most %lld bytes", (long long)rules[f].max);
	return refuse(fault, job, "must be", expected, f);
}

static int check_choice(struct job *job, enum job_field f, struct fault *fault)
{
	char expected[48];

	if (check_string(job, f, fault))
		return -1;
	if (is_choice(job_string(job, f, ""), rules[f].choices))
		return 0;
	snprintf(expected, sizeof expected, "one of %s", rules[f].choices);
	return refuse(fault, job, "must be", expected, f);
}

/* A number out of its range counts as absent: nobody must go by it, not even the result that tells of it. */
static int read_int(struct job *job, enum job_field f)
{
	int64_t n;

	if (json_span_int(job->field[f], &n) && n >= rules[f].min && n <= rules[f].max) {
		job->number[f] = n;
		return 0;
	}
	job->number[f] = -1;
	return -1;
}

static int check_field(struct job *job, enum job_field f, struct fault *fault)
{
	const struct field_rule *rule = &rules[f];
	struct span v = job->field[f];
	char range[80];

	switch (rule->kind) {
	case ID:
		if (f != JOB_ID && !read_id(v, job->reply))
			return refuse(fault, job, "must be", "1 to 128 characters of A-Z a-z 0-9 . _ : -", f);
		return 0;
	case TEXT:
		return check_string(job, f, fault);
	case NAME:
		return check_name(job, f, fault);
	case INTEGER:
		if (read_int(job, f) == 0)
			return 0;
		snprintf(range, sizeof range, "an integer from %lld to %lld", (long long)rule->min,
			 (long long)rule->max);
		return refuse(fault, job, "must be", range, f);
	case SWITCH:
		return json_span_type(v) == JSON_BOOL ? 0 : refuse(fault, job, "must be", "true or false", f);
	case CHOICE:
		return check_choice(job, f, fault);
	case OBJECT:
		return json_span_type(v) == JSON_OBJECT ? 0 : refuse(fault, job, "must be", "an object", f);
	case OURS:
		break;
	}
	return 0;
}

static int check_together(const struct job *job, struct fault *fault)
{
	unsigned sources = 0;

	for (int f = 0; f < JOB_FIELDS; f++)
		if ((AUDIO_SOURCES & job->type->fields & BIT(f)) && job->field[f].ptr)
			sources++;
	if ((job->type->fields & AUDIO_SOURCES) && sources != 1) {
		fault_set(fault, "InvalidJobError", 0,
			  "exactly one of audio_path, audio_key, audio_url and audio_base64 is needed, got %u",
			  sources);
		return -1;
	}
	return 0;
}

/* Also for jobs that are refused before their type is looked at closely: their result should name it. */
static const struct job_type *guess_type(const struct job *job, const char *default_type)
{
	struct span v = job->field[JOB_TYPE];

	if (!v.ptr)
		return job_type_find(default_type, strlen(default_type));
	return json_span_type(v) == JSON_STRING ? job_type_find(v.ptr + 1, v.len - 2) : NULL;
}

static int find_type(struct job *job, const char *default_type, struct fault *fault)
{
	struct span v = job->field[JOB_TYPE];

	if (!v.ptr) {
		job->type = job_type_find(default_type, strlen(default_type));
		if (job->type)
			return 0;
		fault_set(fault, "InvalidJobError", 0, "field 'type' is missing, and the queue's name '%s' is no type",
			  default_type);
		return -1;
	}
	if (check_string(job, JOB_TYPE, fault))
		return -1;
	job->type = job_type_find(job_string(job, JOB_TYPE, ""), strlen(job_string(job, JOB_TYPE, "")));
	if (job->type)
		return 0;
	fault_set(
		fault, "InvalidJobError", 0,
		"type %.*s is unknown to this version; it knows translate, transcribe, synthesize and taskingai.OPERATION, "
		"whose names `adwuma operations` lists",
		shown(v), v.ptr);
	return -1;
}

/* Fields that stand in the result are read also when the job is bad, where they can be. */
static void read_for_result(struct job *job)
{
	static const enum job_field numbers[] = {JOB_RESULT_TTL_S, JOB_ENQUEUED_AT_MS, JOB_ATTEMPT};

	read_id(job->field[JOB_ID], job->id);
	read_id(job->field[JOB_REPLY], job->reply);
	for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++) {
		enum job_field f = numbers[i];

		if (job->field[f].ptr)
			(void)read_int(job, f);
	}
}

/* What a worker added for the way back does not count: a job that was accepted once must not be refused when it comes again. */
static size_t producers_bytes(const struct job *job)
{
	struct span attempt = job->field[JOB_ATTEMPT], billed = job->field[JOB_BILLED];
	size_t digits = attempt.len < ATTEMPT_DIGITS ? attempt.len : ATTEMPT_DIGITS;
	size_t object = billed.len < BILLED_BYTES ? billed.len : BILLED_BYTES;

	return job->payload_len - (attempt.ptr ? sizeof ",\"attempt\":" - 1 + digits : 0) -
	       (billed.ptr ? sizeof ",\"billed\":" - 1 + object : 0);
}

static int check_whole(struct job *job, enum json_verdict verdict, enum json_type type, size_t max_bytes,
		       struct fault *fault)
{
	job->is_object = verdict != JSON_BROKEN && type == JSON_OBJECT;
	/* What lies too deep was not checked. */
	job->is_utf8 = verdict == JSON_OK || (verdict != JSON_NOT_UTF8 && utf8_valid(job->payload, job->payload_len));
	if (!job->is_object) {
		fault_set(fault, "InvalidJobError", 0, "the job is no JSON object");
		return -1;
	}
	read_for_result(job);
	for (size_t f = 0; f < JOB_FIELDS && !job->is_utf8; f++)
		if (job->field[f].ptr && !utf8_valid(job->field[f].ptr, job->field[f].len))
			job->field[f] = (struct span){0}; /* it cannot stand in a result */
	if (!*job->id)
		fault_set(fault, "InvalidJobError", 0,
			  "the job has no usable id: 1 to 128 characters of A-Z a-z 0-9 . _ : -");
	else if (producers_bytes(job) > max_bytes)
		fault_set(fault, "InvalidJobError", 0, "the job has %zu bytes; max_job_bytes allows %zu",
			  producers_bytes(job), max_bytes);
	else if (verdict == JSON_TOO_DEEP)
		fault_set(fault, "InvalidJobError", 0, "the job is nested deeper than %d levels", JSON_DEPTH_MAX);
	else if (verdict == JSON_NOT_UTF8)
		fault_set(fault, "InvalidJobError", 0, "the job's bytes are no UTF-8");
	else
		return 0;
	return -1;
}

/* A file to upload is opened as audio is; fields of those names beside params are none of this type's. */
static const struct {
	enum job_field field;
	const char *param;
} files[] = {{JOB_AUDIO_PATH, "params.file_path"},
	     {JOB_AUDIO_KEY, "params.file_key"},
	     {JOB_AUDIO_BASE64, "params.file_base64"}};

static void find_file(struct job *job)
{
	job->field[JOB_AUDIO_URL] = (struct span){0};
	for (size_t i = 0; i < sizeof files / sizeof *files; i++)
		job->field[files[i].field] = operation_value(job, files[i].param + sizeof "params." - 1);
}

const char *job_field_name(const struct job *job, enum job_field f)
{
	for (size_t i = 0; i < sizeof files / sizeof *files; i++)
		if (operation_of(job) && files[i].field == f)
			return files[i].param;
	return rules[f].name;
}

int job_parse(struct job *job, const char *payload, size_t len, const char *default_type, size_t max_bytes,
	      struct fault *fault)
{
	enum json_type type = JSON_NULL;
	enum json_verdict verdict;
	int rc = 0;

	*job = (struct job){.payload = payload, .payload_len = len, .arena = BUF_INIT(ARENA_MAX)};
	verdict = json_scan(payload, len, &type, collect, job);
	job->type = guess_type(job, default_type);
	fault->service = job->type ? job->type->service : NULL;
	if (check_whole(job, verdict, type, max_bytes, fault) || find_type(job, default_type, fault))
		return -1;
	fault->service = job->type->service; /* now sure */
	if (operation_of(job))
		find_file(job);
	for (int f = 0; f < JOB_FIELDS && rc == 0; f++)
		if (((COMMON_FIELDS | job->type->fields) & BIT(f)) && f != JOB_TYPE && job->field[f].ptr)
			rc = check_field(job, (enum job_field)f, fault);
	if (rc == 0 && operation_of(job))
		rc = operation_check(job, fault);
	return rc ? rc : check_together(job, fault);
}

void job_release(struct job *job)
{
	buf_release(&job->arena);
	*job = (struct job){0};
}

bool job_has(const struct job *job, enum job_field f)
{
	return job->field[f].ptr;
}

const char *job_string(struct job *job, enum job_field f, const char *otherwise)
{
	if (!job->field[f].ptr || json_span_type(job->field[f]) != JSON_STRING)
		return otherwise;
	if (!job->strings[f] && decode(job, f))
		return otherwise;
	return job->arena.ptr + job->strings[f] - 1;
}

int64_t job_number(const struct job *job, enum job_field f, int64_t otherwise)
{
	return job->field[f].ptr && job->number[f] >= 0 ? job->number[f] : otherwise;
}

bool job_holds(struct job *job)
{
	return strcmp(job_string(job, JOB_IF_UNSURE, operation_holds(job) ? "hold" : "rerun"), "hold") == 0;
}

bool job_streams(const struct job *job)
{
	const struct operation *op = operation_of(job);

	return op && op->streams &&
	       (json_span_is_true(operation_value(job, "stream")) || json_span_is_true(operation_value(job, "debug")));
}

/* --- The way back. ------------------------------------------------------------------------------------------------------ */

static bool ends_with_comma_or_brace(const struct buf *b, size_t from)
{
	size_t i = b->len;

	while (i > from && memchr(" \n\r\t", b->ptr[i - 1], 4))
		i--;
	return i > from && (b->ptr[i - 1] == ',' || b->ptr[i - 1] == '{');
}

void job_billed(const struct job *job, struct units *out)
{
	units_read(out, job->field[JOB_BILLED]);
}

/* Appends the object without that member, open for another one: every other byte stays. */
static void open_without(const char *object, size_t len, const char *name, struct buf *out)
{
	size_t from = out->len;

	json_open_without(object, len, name, out);
	if (!ends_with_comma_or_brace(out, from))
		buf_char(out, ',');
}

void job_with_attempt(const struct job *job, int64_t attempt, const struct units *billed, struct buf *out)
{
	static const struct units none;
	struct buf open = BUF_INIT(out->max);

	open_without(job->payload, job->payload_len, "billed", &open);
	if (memcmp(billed, &none, sizeof none) != 0) {
		buf_lit(&open, "\"billed\":");
		units_json(billed, &open);
		buf_char(&open, ',');
	}
	buf_lit(&open, "\"attempt\":0}"); /* so that the comma has something behind it */
	if (!open.failed)
		open_without(open.ptr, open.len, "attempt", out);
	out->failed = out->failed || open.failed;
	buf_release(&open);
	buf_lit(out, "\"attempt\":");
	buf_int(out, attempt);
	buf_char(out, '}');
}
