/* SPDX-License-Identifier: MIT
 *
 * A payload as a producer may write it, read and put back with another attempt. The queue's name follows from its length. */
#include "fuzz.h"

#include "base/utf8.h"
#include "job/job.h"

#define MAX_BYTES 3000 /* below what libFuzzer tries, so that the bound is met */

static const char *const queues[] = {"translate", "transcribe", "synthesize", "bulk"};

static void check_id(const char *id)
{
	must(strlen(id) <= JOB_ID_MAX &&
	     strspn(id, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._:-") == strlen(id));
}

static void check_refused(const struct job *job, const struct fault *f)
{
	must(strcmp(f->type, "InvalidJobError") == 0 && f->status_code == 0 && !f->retryable);
	must(f->message.len > 0 && !f->message.failed && utf8_valid(f->message.ptr, f->message.len));
	must(job->is_object || !*job->id);
}

static void check_accepted(struct job *job)
{
	must(job->is_object && job->is_utf8 && *job->id && job->type && job->payload_len <= MAX_BYTES + 100);
	for (int f = 0; f < JOB_FIELDS; f++) {
		const char *text = job_string(job, (enum job_field)f, NULL);
		int64_t n = job_number(job, (enum job_field)f, 1);

		must(!text || utf8_valid(text, strlen(text)));
		must(n >= 0 && n <= INT64_C(9007199254740992));
	}
	must(!job_has(job, JOB_MAX_ATTEMPTS) || job_number(job, JOB_MAX_ATTEMPTS, 0) >= 1);
}

static void check_spans(const struct job *job)
{
	for (int f = 0; f < JOB_FIELDS; f++) {
		struct span v = job->field[f];

		must(!v.ptr ||
		     (v.ptr >= job->payload && v.len > 0 && v.ptr + v.len <= job->payload + job->payload_len));
	}
}

static const struct units sent = {{2, 30, 1, 0}};

/* All members but attempt and billed are there, byte for byte and in order; these are there once, at the end. */
static void check_kept(const char *before, size_t before_len, const struct buf *after, int64_t attempt)
{
	struct members old = {0}, new = {0};
	struct units billed;
	size_t k = 0;
	int64_t n = -1;

	must(json_scan(before, before_len, NULL, add_member, &old) == JSON_OK);
	must(json_scan(after->ptr, after->len, NULL, add_member, &new) == JSON_OK);
	for (size_t i = 0; i < old.n; i++) {
		if (json_key_is(old.key[i], "attempt") || json_key_is(old.key[i], "billed"))
			continue;
		must(k < new.n &&same(old.key[i], new.key[k]) && same(old.value[i], new.value[k]));
		k++;
	}
	must(k + 2 == new.n &&json_key_is(new.key[k], "billed") && json_key_is(new.key[k + 1], "attempt"));
	units_read(&billed, new.value[k]);
	must(memcmp(&billed, &sent, sizeof sent) == 0);
	must(json_span_int(new.value[k + 1], &n) && n == attempt);
	release_members(&old);
	release_members(&new);
}

static void check_same_job(struct job *a, struct job *b)
{
	must(strcmp(a->id, b->id) == 0 && strcmp(a->reply, b->reply) == 0 && a->type == b->type);
	for (int f = 0; f < JOB_FIELDS; f++) {
		if (f == JOB_ATTEMPT || f == JOB_BILLED)
			continue;
		must(same(a->field[f], b->field[f]));
		must(same_text(job_string(a, (enum job_field)f, NULL), job_string(b, (enum job_field)f, NULL)));
		must(job_number(a, (enum job_field)f, -1) == job_number(b, (enum job_field)f, -1));
	}
}

/* The way through delayed and back, twice: what a worker accepted once, another accepts too. */
static void check_way_back(struct job *job, const char *queue)
{
	int64_t attempts[] = {(int64_t)(job->payload_len % 100) + 1, 1000000};
	struct buf out = BUF_INIT(SIZE_MAX / 4), again = BUF_INIT(SIZE_MAX / 4);
	struct fault fault;
	struct job back;

	fault_init(&fault);
	job_with_attempt(job, attempts[0], &sent, &out);
	check_kept(job->payload, job->payload_len, &out, attempts[0]);
	must(job_parse(&back, out.ptr, out.len, queue, MAX_BYTES, &fault) == 0);
	check_same_job(job, &back);
	must(job_number(&back, JOB_ATTEMPT, -1) == attempts[0]);

	job_with_attempt(&back, attempts[1], &sent, &again);
	job_release(&back);
	buf_clear(&out);
	job_with_attempt(job, attempts[1], &sent, &out);
	must(same((struct span){out.ptr, out.len}, (struct span){again.ptr, again.len}));
	must(job_parse(&back, again.ptr, again.len, queue, MAX_BYTES, &fault) == 0);
	job_release(&back);
	fault_release(&fault);
	buf_release(&out);
	buf_release(&again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *queue = queues[size % 4];
	struct fault fault;
	struct job job;
	int rc;

	fault_init(&fault);
	rc = job_parse(&job, (const char *)data, size, queue, MAX_BYTES, &fault);
	check_id(job.id);
	check_id(job.reply);
	check_spans(&job);
	must(!job.is_utf8 || utf8_valid((const char *)data, size));
	if (rc) {
		check_refused(&job, &fault);
	} else {
		check_accepted(&job);
		check_way_back(&job, queue);
	}
	job_release(&job);
	fault_release(&fault);
	return 0;
}
