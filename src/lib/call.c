/* SPDX-License-Identifier: MIT
 *
 * The operations in their two forms. Each writes what its job has beside id and type; what all jobs have is written here once, behind it: of several
 * members with one name the last counts, so nobody's further members can take their place. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/digest.h"
#include "base/file.h"
#include "base/json.h"
#include "base/utf8.h"
#include "job/operation.h"
#include "lib/courier.h"
#include "lib/draft.h"
#include "lib/result.h"
#include "lib/sigpipe.h"

#define DEADLINE_MS 300000 /* of a direct call, with all its tries */
#define DEADLINE_MS_MAX 86400000LL
#define SPARE_BYTES 4096 /* so that the bound on a job is met by its check, not while writing it */
#define TEXT_MAX (1UL << 30)
#define AUDIO_TTL_MAX_S (365LL * 86400)

/* A job that is being written. */
struct request {
	struct adwuma *client;
	const char *type;
	const struct adwuma_how *how;
	struct courier *courier; /* NULL: direct */
	char id[ADWUMA_ID_MAX + 1];
	char queue[QUEUE_NAME_MAX + 1];
	struct buf job;
	struct error e;
};

/* --- Writing a job. ------------------------------------------------------------------------------------------------- */

static void comma(struct buf *b)
{
	if (b->len > 0 && b->ptr[b->len - 1] != '{')
		buf_char(b, ',');
}

static void add_name(struct buf *b, const char *name)
{
	comma(b);
	buf_char(b, '"');
	buf_str_add(b, name);
	buf_lit(b, "\":");
}

static void add_text(struct buf *b, const char *name, const char *value)
{
	if (!value)
		return;
	add_name(b, name);
	buf_json_cstr(b, value);
}

/* What the caller gave. What is no UTF-8 would be something else when it is written as JSON, and be paid for. */
static int add_given(struct request *q, const char *name, const char *value)
{
	if (value && !utf8_valid(value, strlen(value)))
		return error_set(&q->e, ERR_INVALID, "%s is not UTF-8", name);
	add_text(&q->job, name, value);
	return 0;
}

static void add_number(struct buf *b, const char *name, int64_t value)
{
	if (value == 0)
		return;
	add_name(b, name);
	buf_int(b, value);
}

/* The members of a JSON object, as they stand there. */
static int add_members(struct request *q, const char *object, const char *what)
{
	enum json_type type = JSON_NULL;
	size_t len = object ? strlen(object) : 0, from, to;

	if (!object)
		return 0;
	if (json_scan(object, len, &type, NULL, NULL) != JSON_OK || type != JSON_OBJECT)
		return error_set(&q->e, ERR_INVALID, "%s must be a JSON object, not: %.100s", what, object);
	from = strcspn(object, "{") + 1;
	for (to = len - 1; object[to] != '}'; to--)
		;
	from += strspn(object + from, " \t\r\n");
	if (from < to) {
		comma(&q->job);
		buf_add(&q->job, object + from, to - from);
	}
	return 0;
}

static int add_value(struct request *q, const char *name, const char *json, enum json_type wanted, const char *what)
{
	enum json_type type = JSON_NULL;

	if (!json || json_scan(json, strlen(json), &type, NULL, NULL) != JSON_OK || type != wanted)
		return error_set(&q->e, ERR_INVALID, "%s must be %s in JSON, not: %.100s", what,
				 wanted == JSON_ARRAY ? "an array" : "an object", json ? json : "nothing");
	add_name(&q->job, name);
	buf_str_add(&q->job, json);
	return 0;
}

/* Id and queue, which keys are made of. */
static int name_job(struct request *q)
{
	const char *dot = strchr(q->type, '.');
	size_t n = dot ? (size_t)(dot - q->type) : strlen(q->type);

	if (q->how->queue)
		n = strlen(q->how->queue);
	snprintf(q->queue, sizeof q->queue, "%.*s", n > QUEUE_NAME_MAX ? QUEUE_NAME_MAX : (int)n,
		 q->how->queue ? q->how->queue : q->type);
	if (n > QUEUE_NAME_MAX || !draft_is_queue(q->queue, n))
		return error_set(&q->e, ERR_INVALID, "'%.80s' is no queue name: 1 to %d characters of a-z 0-9 _ . -",
				 q->how->queue ? q->how->queue : q->type, QUEUE_NAME_MAX);
	if (!q->how->id) {
		adwuma_new_id(q->id);
		return 0;
	}
	if (lib_check_names(q->queue, q->how->id, &q->e))
		return -1;
	strcpy(q->id, q->how->id);
	return 0;
}

static int begin(struct request *q, adwuma *client, const char *type, const struct adwuma_how *how, bool direct)
{
	static const struct adwuma_how none;

	*q = (struct request){.client = client, .type = type, .how = how ? how : &none, .job = BUF_INIT(TEXT_MAX)};
	if (!client)
		return error_set(&q->e, ERR_INVALID, "there is no client: adwuma_open has failed");
	if (!type || !*type)
		return error_set(&q->e, ERR_INVALID, "the job needs a type");
	if (name_job(q))
		return -1;
	if (!direct) {
		q->courier = courier_of(client, &q->e);
		if (!q->courier)
			return -1;
	}
	buf_char(&q->job, '{');
	return add_members(q, q->how->members, "how.members");
}

static int finish(struct request *q)
{
	const struct adwuma_how *how = q->how;
	struct buf *b = &q->job;

	add_number(b, "timeout_ms", how->timeout_ms);
	add_number(b, "max_attempts", how->max_attempts);
	add_number(b, "not_before_ms", how->not_before_ms);
	add_number(b, "expires_at_ms", how->expires_at_ms);
	add_number(b, "result_ttl_s", how->result_ttl_s);
	if (add_given(q, "if_unsure", how->if_unsure) || add_given(q, "traceparent", how->traceparent) ||
	    add_given(q, "type", q->type))
		return -1;
	add_text(b, "id", q->id);
	add_number(b, "enqueued_at_ms", clock_real_ms());
	if (q->courier)
		add_text(b, "reply", courier_reply_name(q->courier));
	buf_char(b, '}');
	if (b->failed)
		return error_set(&q->e, ERR_MEMORY, "no memory for the job");
	if (q->courier && b->len > q->client->max_job_bytes)
		return error_set(&q->e, ERR_INVALID, "the job has %zu bytes; max_job_bytes is %zu", b->len,
				 q->client->max_job_bytes);
	return 0;
}

/* --- Doing it: through the queue. ----------------------------------------------------------------------------------- */

/* Ends what begin began. written: 0, or -1 with q->e. */
static adwuma_handle *hand(struct request *q, int written, struct adwuma_error *err)
{
	adwuma_handle *h = NULL;

	if (written == 0 && finish(q) == 0)
		h = courier_hand(q->courier, q->queue, q->id, q->how->id != NULL, &q->job, &q->e);
	buf_release(&q->job);
	if (!h)
		lib_tell(err, &q->e);
	return h;
}

/* --- Doing it: here. ------------------------------------------------------------------------------------------------ */

struct idle_direct {
	struct direct *direct;
	struct idle_direct *next;
};

/* Audio in memory travels inside its job. */
static struct direct_site *open_site(struct adwuma *c, struct error *e)
{
	const struct settings *s = c->settings;

	return direct_site_open(s, s->max_job_bytes + s->max_audio_bytes / 3 * 4 + SPARE_BYTES, e);
}

static struct idle_direct *take_direct(struct adwuma *c, struct error *e)
{
	struct idle_direct *d;

	pthread_mutex_lock(&c->lock);
	d = c->idle_directs;
	if (d) {
		c->idle_directs = d->next;
		c->nidle_directs--;
	} else if (!c->site) {
		c->site = open_site(c, e);
	}
	pthread_mutex_unlock(&c->lock);
	if (d || !c->site)
		return d;
	d = calloc(1, sizeof *d);
	if (d)
		d->direct = direct_open(c->site, e);
	else
		error_set(e, ERR_MEMORY, "out of memory");
	if (d && d->direct)
		return d;
	free(d);
	return NULL;
}

static void give_direct(struct adwuma *c, struct idle_direct *d)
{
	bool kept;

	pthread_mutex_lock(&c->lock);
	kept = c->nidle_directs < LIB_IDLE_MAX;
	if (kept) {
		d->next = c->idle_directs;
		c->idle_directs = d;
		c->nidle_directs++;
	}
	pthread_mutex_unlock(&c->lock);
	if (kept)
		return;
	direct_close(d->direct);
	free(d);
}

void directs_free(struct adwuma *c)
{
	while (c->idle_directs) {
		struct idle_direct *d = c->idle_directs;

		c->idle_directs = d->next;
		direct_close(d->direct);
		free(d);
	}
	direct_site_close(c->site);
}

/* A piece of a direct stream as one of a stream in Redis. */
static void on_piece(void *ctx, const char *json, size_t n)
{
	const struct adwuma_how *how = ctx;
	struct adwuma_piece piece = {.event = "chunk", .data = json, .len = n, .entry_id = ""};
	char attempt[64];

	if (!json) {
		piece.event = "restart";
		piece.len = (size_t)snprintf(attempt, sizeof attempt, "{\"attempt\":%zu}", n);
		piece.data = attempt;
	}
	how->piece(how->piece_ctx, &piece);
}

static int run_direct(struct request *q, adwuma_result **result)
{
	struct idle_direct *d = take_direct(q->client, &q->e);
	int64_t limit_ms = q->how->deadline_ms > 0 ? q->how->deadline_ms : DEADLINE_MS;
	struct adwuma_how how = *q->how;
	struct direct_outcome out;
	size_t len;

	if (!d)
		return -1;
	direct_on_piece(d->direct, how.piece ? on_piece : NULL, &how);
	direct_run(d->direct, q->type, q->job.ptr, q->job.len,
		   clock_mono_ms() + (limit_ms < DEADLINE_MS_MAX ? limit_ms : DEADLINE_MS_MAX), &out);
	direct_on_piece(d->direct, NULL, NULL);
	give_direct(q->client, d);
	if (out.timed_out) {
		error_set(&q->e, ERR_TIMEOUT, "the job was not settled within %lld ms", (long long)limit_ms);
	} else {
		len = out.result.len;
		*result = out.result.failed ? NULL : result_take(buf_steal(&out.result), len);
		if (*result)
			result_set_audio(*result, &out.audio);
		else
			error_set(&q->e, ERR_MEMORY, "no memory for the result");
	}
	direct_outcome_release(&out);
	return q->e.code == ERR_NONE ? 0 : -1;
}

/* Ends what begin began. */
static int perform(struct request *q, int written, adwuma_result **result, struct adwuma_error *err)
{
	struct sigpipe sigpipe;
	int rc = written ? -1 : finish(q);

	*result = NULL;
	sigpipe_block(&sigpipe);
	if (rc == 0)
		rc = run_direct(q, result);
	sigpipe_restore(&sigpipe);
	buf_release(&q->job);
	return rc ? lib_tell(err, &q->e) : 0;
}

/* --- What the operations write. ------------------------------------------------------------------------------------- */

static int write_members(struct request *q, const char *members)
{
	return add_members(q, members, "members");
}

static int write_translate(struct request *q, const char *text, const char *pair)
{
	return add_given(q, "text", text ? text : "") || add_given(q, "language_pair", pair);
}

static int write_synthesize(struct request *q, const char *text, const char *language, const char *speaker)
{
	return add_given(q, "text", text ? text : "") || add_given(q, "language", language ? language : "twi") ||
	       add_given(q, "speaker", speaker);
}

static int write_chat(struct request *q, const char *model, const char *messages, const char *params)
{
	comma(&q->job);
	buf_lit(&q->job, "\"params\":{");
	if (add_members(q, params, "params"))
		return -1;
	if (add_given(q, "model_id", model) || add_value(q, "messages", messages, JSON_ARRAY, "messages"))
		return -1;
	buf_char(&q->job, '}');
	return 0;
}

static int write_params(struct request *q, const char *params)
{
	return add_value(q, "params", params ? params : "{}", JSON_OBJECT, "params");
}

static int check_audio(struct request *q, const struct adwuma_audio *a)
{
	int sources = a ? (a->path != NULL) + (a->bytes != NULL) + (a->key != NULL) + (a->url != NULL) : 0;

	if (sources != 1)
		return error_set(&q->e, ERR_INVALID,
				 "the audio must have exactly one of path, bytes, key and url, not %d", sources);
	if (!q->courier && a->key)
		return error_set(&q->e, ERR_INVALID,
				 "a direct call has no Redis to take an audio key from: give a path or bytes");
	return 0;
}

/* How long audio must lie there: as results do by the settings, from when the job may begin, or until it may not any more. */
static int64_t audio_ttl_s(const struct request *q)
{
	int64_t least = q->how->result_ttl_s > q->client->result_ttl_s ? q->how->result_ttl_s : q->client->result_ttl_s;
	int64_t until_ms = q->how->expires_at_ms > 0 ? q->how->expires_at_ms : q->how->not_before_ms;
	int64_t wait_s = (until_ms - clock_real_ms()) / 1000;

	if (wait_s > 0)
		least += wait_s < AUDIO_TTL_MAX_S - least ? wait_s : AUDIO_TTL_MAX_S - least;
	return least < AUDIO_TTL_MAX_S ? least : AUDIO_TTL_MAX_S;
}

/* Into a key of its own, where any worker finds it. Not one of the job's name: a second job of that id would change the first one's audio. */
static int upload(struct request *q, const void *bytes, size_t len, char key[KEY_MAX])
{
	struct adwuma_error failed = {0};
	char name[ADWUMA_ID_MAX + 1];

	adwuma_new_id(name);
	if (adwuma_put_audio(q->client, q->queue, name, bytes, len, audio_ttl_s(q), key, KEY_MAX, &failed) == 0)
		return 0;
	return error_set(&q->e, failed.code == ADWUMA_INVALID ? ERR_INVALID : ERR_LINK, "%s", failed.message);
}

static int write_file(struct request *q, const char *path)
{
	char whole[PATH_MAX], key[KEY_MAX];
	struct buf bytes = BUF_INIT((size_t)q->client->settings->max_audio_bytes);
	int rc;

	if (!q->courier) { /* as it lies there; one that does not is told as a worker tells it */
		return add_given(q, "audio_path", realpath(path, whole) ? whole : path);
	}
	rc = file_read_all(path, "max_audio_bytes", &bytes, &q->e) || upload(q, buf_cstr(&bytes), bytes.len, key);
	if (rc == 0)
		add_text(&q->job, "audio_key", key);
	buf_release(&bytes);
	return rc ? -1 : 0;
}

static int write_bytes(struct request *q, const void *bytes, size_t len)
{
	char key[KEY_MAX];

	if (len > (size_t)q->client->settings->max_audio_bytes)
		return error_set(&q->e, ERR_INVALID, "the audio has %zu bytes; max_audio_bytes is %lld", len,
				 (long long)q->client->settings->max_audio_bytes);
	if (q->courier) {
		if (upload(q, bytes, len, key))
			return -1;
		add_text(&q->job, "audio_key", key);
		return 0;
	}
	comma(&q->job);
	buf_lit(&q->job, "\"audio_base64\":\"");
	base64_encode(&q->job, bytes, len);
	buf_char(&q->job, '"');
	return 0;
}

static int write_transcribe(struct request *q, const struct adwuma_audio *audio, const char *language,
			    const char *timestamps)
{
	if (check_audio(q, audio))
		return -1;
	if (add_given(q, "language", language) || add_given(q, "timestamps", timestamps) ||
	    add_given(q, "audio_key", audio->key) || add_given(q, "audio_url", audio->url))
		return -1;
	if (audio->path)
		return write_file(q, audio->path);
	return audio->bytes ? write_bytes(q, audio->bytes, audio->len) : 0;
}

/* --- The operations. ------------------------------------------------------------------------------------------------ */

#define DIRECTLY(type, write)                                                                                          \
	do {                                                                                                           \
		struct request q;                                                                                      \
		int written = begin(&q, client, type, how, true) || (write) ? -1 : 0;                                  \
                                                                                                                       \
		return perform(&q, written, result, err);                                                              \
	} while (0)
#define BY_QUEUE(type, write)                                                                                          \
	do {                                                                                                           \
		struct request q;                                                                                      \
		int written = begin(&q, client, type, how, false) || (write) ? -1 : 0;                                 \
                                                                                                                       \
		return hand(&q, written, err);                                                                         \
	} while (0)

int adwuma_translate(adwuma *client, const char *text, const char *language_pair, const struct adwuma_how *how,
		     adwuma_result **result, struct adwuma_error *err)
{
	DIRECTLY("translate", write_translate(&q, text, language_pair));
}

adwuma_handle *adwuma_atranslate(adwuma *client, const char *text, const char *language_pair,
				 const struct adwuma_how *how, struct adwuma_error *err)
{
	BY_QUEUE("translate", write_translate(&q, text, language_pair));
}

int adwuma_transcribe(adwuma *client, const struct adwuma_audio *audio, const char *language, const char *timestamps,
		      const struct adwuma_how *how, adwuma_result **result, struct adwuma_error *err)
{
	DIRECTLY("transcribe", write_transcribe(&q, audio, language, timestamps));
}

adwuma_handle *adwuma_atranscribe(adwuma *client, const struct adwuma_audio *audio, const char *language,
				  const char *timestamps, const struct adwuma_how *how, struct adwuma_error *err)
{
	BY_QUEUE("transcribe", write_transcribe(&q, audio, language, timestamps));
}

int adwuma_synthesize(adwuma *client, const char *text, const char *language, const char *speaker,
		      const struct adwuma_how *how, adwuma_result **result, struct adwuma_error *err)
{
	DIRECTLY("synthesize", write_synthesize(&q, text, language, speaker));
}

adwuma_handle *adwuma_asynthesize(adwuma *client, const char *text, const char *language, const char *speaker,
				  const struct adwuma_how *how, struct adwuma_error *err)
{
	BY_QUEUE("synthesize", write_synthesize(&q, text, language, speaker));
}

int adwuma_chat_completion(adwuma *client, const char *model_id, const char *messages, const char *params,
			   const struct adwuma_how *how, adwuma_result **result, struct adwuma_error *err)
{
	DIRECTLY(OPERATION_PREFIX "chat_completion", write_chat(&q, model_id, messages, params));
}

adwuma_handle *adwuma_a_chat_completion(adwuma *client, const char *model_id, const char *messages, const char *params,
					const struct adwuma_how *how, struct adwuma_error *err)
{
	BY_QUEUE(OPERATION_PREFIX "chat_completion", write_chat(&q, model_id, messages, params));
}

#define TYPE_MAX 200

/* "taskingai.create_assistant"; NULL with *err where there is no such operation. */
static const char *type_of(const char *operation, char type[TYPE_MAX], struct adwuma_error *err)
{
	struct error e = {0};
	int n = snprintf(type, TYPE_MAX, "%s%s", OPERATION_PREFIX, operation ? operation : "");

	if (n > 0 && n < TYPE_MAX && operation_find(type, (size_t)n))
		return type;
	error_set(&e, ERR_INVALID, "'%.100s' is no operation of TaskingAI here: adwuma_operation() lists them",
		  operation ? operation : "");
	lib_tell(err, &e);
	return NULL;
}

int adwuma_taskingai(adwuma *client, const char *operation, const char *params, const struct adwuma_how *how,
		     adwuma_result **result, struct adwuma_error *err)
{
	char type[TYPE_MAX];

	if (!type_of(operation, type, err)) {
		*result = NULL;
		return -1;
	}
	DIRECTLY(type, write_params(&q, params));
}

adwuma_handle *adwuma_a_taskingai(adwuma *client, const char *operation, const char *params,
				  const struct adwuma_how *how, struct adwuma_error *err)
{
	char type[TYPE_MAX];

	if (!type_of(operation, type, err))
		return NULL;
	BY_QUEUE(type, write_params(&q, params));
}

const char *adwuma_operation(size_t i)
{
	const struct operation *op = operation_at(i);

	return op ? op->type.name + strlen(OPERATION_PREFIX) : NULL;
}

int adwuma_call(adwuma *client, const char *type, const char *members, const struct adwuma_how *how,
		adwuma_result **result, struct adwuma_error *err)
{
	DIRECTLY(type, write_members(&q, members));
}

adwuma_handle *adwuma_a_call(adwuma *client, const char *type, const char *members, const struct adwuma_how *how,
			     struct adwuma_error *err)
{
	BY_QUEUE(type, write_members(&q, members));
}
