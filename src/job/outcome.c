/* SPDX-License-Identifier: MIT
 *
 * See outcome.h. The field order is the contract's (section 4). */
#include "job/outcome.h"

#include <string.h>

#include "base/digest.h"

#define RESULT_MAX (1UL << 30) /* responses and audio are bounded by settings; this only stops runaways */
#define KEEP_BYTES 4096
#define OWN_MAX (16 * 1024) /* bytes of a string of the job's that stands in its result */
#define BACKOFF_MAX_MS 60000
#define RETRY_AFTER_MAX_MS 3600000
#define RETRY_AFTER_JITTER_MAX_MS 5000

void outcome_init(struct outcome *o)
{
	*o = (struct outcome){.kind = OUTCOME_FAILED,
			      .retry_after_ms = RETRY_AFTER_NONE,
			      .result = BUF_INIT(RESULT_MAX),
			      .audio = BUF_INIT(RESULT_MAX)};
	fault_init(&o->fault);
}

void outcome_release(struct outcome *o)
{
	buf_release(&o->result);
	buf_release(&o->audio);
	fault_release(&o->fault);
}

void outcome_clear(struct outcome *o)
{
	o->kind = OUTCOME_FAILED;
	o->retry_after_ms = RETRY_AFTER_NONE;
	o->tries_max = o->tokens = 0;
	o->nothing_done = o->unclear = false;
	o->audio_type[0] = '\0';
	buf_trim(&o->result, KEEP_BYTES);
	buf_trim(&o->audio, KEEP_BYTES);
	buf_trim(&o->fault.message, KEEP_BYTES);
	buf_trim(&o->fault.code, KEEP_BYTES);
	buf_trim(&o->fault.details, KEEP_BYTES);
	buf_trim(&o->fault.activity_id, KEEP_BYTES);
	o->fault.service = NULL;
	o->fault.retryable = false;
}

static void int_or_null(struct buf *out, int64_t n, bool there)
{
	if (there)
		buf_int(out, n);
	else
		buf_lit(out, "null");
}

/* A string of the job's, unchecked where the job is bad: longer ones, and what strict readers refuse, are left out with the lead before them. */
static bool add_own(struct buf *out, const char *lead, struct span v)
{
	struct buf plain = BUF_INIT(OWN_MAX);
	bool fit = v.ptr && json_span_type(v) == JSON_STRING && json_span_string(v, &plain) && !plain.failed;

	if (fit) {
		buf_str_add(out, lead);
		buf_json_string(out, buf_cstr(&plain), plain.len);
	}
	buf_release(&plain);
	return fit;
}

static void add_type(const struct job *job, struct buf *out)
{
	if (job->type)
		buf_json_cstr(out, job->type->name);
	else if (!add_own(out, "", job->field[JOB_TYPE]))
		buf_lit(out, "null");
}

struct outcome_value outcome_result_json(const struct job *job, const struct outcome *o,
					 const struct outcome_facts *facts, struct buf *out)
{
	size_t began = out->len;
	struct outcome_value value;
	int64_t enqueued = job_number(job, JOB_ENQUEUED_AT_MS, -1);

	buf_lit(out, "{\"id\":\"");
	buf_str_add(out, job->id); /* of the id alphabet: nothing to escape */
	buf_lit(out, "\",\"queue\":\"");
	buf_str_add(out, facts->queue);
	buf_lit(out, "\",\"type\":");
	add_type(job, out);
	if (o->kind == OUTCOME_SUCCEEDED) {
		buf_lit(out, ",\"status\":\"succeeded\",\"result\":");
		value.from = out->len - began;
		buf_add(out, o->result.ptr, o->result.len);
	} else {
		buf_lit(out, ",\"status\":\"failed\",\"error\":");
		value.from = out->len - began;
		fault_json(&o->fault, out);
	}
	value.to = out->len - began;
	buf_lit(out, ",\"attempts\":");
	buf_int(out, facts->attempts);
	buf_lit(out, ",\"enqueued_at_ms\":");
	int_or_null(out, enqueued, enqueued >= 0);
	buf_lit(out, ",\"started_at_ms\":");
	int_or_null(out, facts->started_at_ms, facts->started_at_ms > 0);
	buf_lit(out, ",\"finished_at_ms\":");
	buf_int(out, facts->finished_at_ms);
	buf_lit(out, ",\"api_ms\":");
	buf_json_double(out, facts->api_ms, 3);
	buf_lit(out, ",\"cached\":false,\"worker\":");
	buf_json_cstr(out, facts->worker);
	buf_lit(out, ",\"billed\":");
	units_json(&facts->billed, out);
	add_own(out, ",\"traceparent\":", job->field[JOB_TRACEPARENT]);
	buf_char(out, '}');
	return value;
}

static void count(void *ctx, struct span key, struct span value)
{
	(void)key;
	(void)value;
	++*(size_t *)ctx;
}

/* Only what can be checked whole may stand as JSON, one level deeper than it was. Checked where it stands, it must be one value. */
static bool add_as_json(const struct job *job, struct buf *out)
{
	size_t from = out->len, members = 0;
	bool is_json;

	buf_lit(out, "{\"job\":");
	buf_add(out, job->payload, job->payload_len);
	buf_char(out, '}');
	is_json = !out->failed && json_scan(out->ptr + from, out->len - from, NULL, count, &members) == JSON_OK &&
		  members == 1;
	buf_cut(out, is_json ? out->len - 1 : from);
	return is_json;
}

void outcome_dead_json(const struct job *job, const struct fault *fault, int64_t died_at_ms, size_t max_bytes,
		       struct buf *out)
{
	if (job->payload_len > max_bytes) {
		buf_printf(out, "{\"job\":null,\"job_bytes\":%zu", job->payload_len);
	} else if (!job->is_utf8) {
		buf_lit(out, "{\"job_base64\":\"");
		base64_encode(out, job->payload, job->payload_len);
		buf_char(out, '"');
	} else if (!add_as_json(job, out)) {
		buf_lit(out, "{\"job\":");
		buf_json_string(out, job->payload, job->payload_len);
	}
	buf_lit(out, ",\"error\":");
	fault_json(fault, out);
	buf_lit(out, ",\"died_at_ms\":");
	buf_int(out, died_at_ms);
	buf_char(out, '}');
}

int64_t outcome_retry_delay_ms(int64_t attempts, int64_t retry_after_ms, double random01)
{
	int64_t ms;

	if (retry_after_ms >= 0) {
		int64_t asked = retry_after_ms < RETRY_AFTER_MAX_MS ? retry_after_ms : RETRY_AFTER_MAX_MS;
		int64_t jitter = asked / 10 < RETRY_AFTER_JITTER_MAX_MS ? asked / 10 : RETRY_AFTER_JITTER_MAX_MS;

		return asked + (int64_t)(random01 * (double)jitter);
	}
	if (attempts > 6)
		return BACKOFF_MAX_MS;
	ms = (1000LL << (attempts - 1)) + (int64_t)(random01 * 1000.0);
	return ms < BACKOFF_MAX_MS ? ms : BACKOFF_MAX_MS;
}
