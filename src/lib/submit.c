/* SPDX-License-Identifier: MIT
 *
 * Jobs go to their lists by LPUSH, many in a round trip. What was not acknowledged when a connection broke, and what Redis takes later or elsewhere,
 * is pushed again: a worker drops the second job of an id. Every public function is a frame around its inner twin, in which errors are struct error.
 */
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "lib/draft.h"
#include "lib/inside.h"
#include "lib/sigpipe.h"

#define TRIP_JOBS 1000 /* in one round trip: their replies fit a socket's buffer, so writing never waits for reading */
#define REPLY_MS_MIN 1000
#define TRIP_BYTES (1024 * 1024) /* of payloads in one round trip, beyond the first */

/* Drafts and appends one job. Returns 1 when it is on its way, 0 when it is bad (its error says why), -1 when the
 * connection failed. */
static int append_job(struct link *l, struct adwuma_job *job, struct error *e)
{
	struct draft draft;
	struct keys keys;
	struct error bad = {0};

	if (draft_make(&draft, job->queue, job->json, job->len, job->id, &l->scratch, &bad)) {
		job->id[0] = '\0';
		lib_tell(&job->error, &bad);
		return 0;
	}
	memcpy(job->id, draft.id, sizeof job->id);
	keys_init(&keys, l->client->prefix, draft.queue);
	return redis_appendf(l->redis, e, "LPUSH %s %b", keys.ready, draft.payload.ptr, draft.payload.len) ? -1 : 1;
}

/* Reads the reply to one job; *trouble where it is to be pushed again. */
static int receive_job(struct link *l, struct adwuma_job *job, struct error *trouble, struct error *e)
{
	struct reply *reply = NULL;
	struct verdict v;

	if (redis_receive(l->redis, &reply, e))
		return -1;
	link_judge(l, reply, &v);
	lib_tell(&job->error, &v.e);
	if (link_broke(&v.e))
		*trouble = v.e;
	reply_free(reply);
	return 0;
}

/* Who waits for less than a slow server may take is told in time. */
static int64_t reply_ms(const struct adwuma *c)
{
	int64_t ms = c->submit_ms < REDIS_REPLY_MS ? c->submit_ms : REDIS_REPLY_MS;

	return ms > REPLY_MS_MIN ? ms : REPLY_MS_MIN;
}

/* One round trip for some of the jobs. Returns how many were dealt with, or -1: then those that were not acknowledged
 * are as before. */
static int submit_one_trip(struct link *l, struct adwuma_job *jobs, size_t njobs, struct error *e)
{
	struct error trouble = {0};
	bool sent[TRIP_JOBS];
	size_t n = 0, bytes = 0;

	if (link_connect(l, e))
		return -1;
	if (redis_set_timeout(l->redis, reply_ms(l->client), e))
		return link_failed(l, e);
	for (; n < njobs && n < TRIP_JOBS && (n == 0 || bytes + jobs[n].len < TRIP_BYTES); n++) {
		int rc = jobs[n].error.code == ADWUMA_OK ? 0 : append_job(l, &jobs[n], e);

		if (rc < 0)
			return link_failed(l, e);
		sent[n] = rc > 0;
		bytes += jobs[n].len;
	}
	for (size_t i = 0; i < n; i++)
		if (sent[i] && receive_job(l, &jobs[i], &trouble, e))
			return link_failed(l, e);
	if (l->outdated)
		link_disconnect(l);
	if (trouble.code == ERR_NONE)
		return (int)n;
	*e = trouble;
	return -1;
}

static int submit_all(struct link *l, struct adwuma_job *jobs, size_t njobs, struct error *e)
{
	int64_t give_up_at = 0;
	unsigned tries = 0;

	for (size_t done = 0; done < njobs;) {
		int64_t began_ms = clock_mono_ms();
		int n = submit_one_trip(l, jobs + done, njobs - done, e);
		int64_t left;

		if (n >= 0) {
			done += (size_t)n;
			give_up_at = 0;
			tries = 0;
			continue;
		}
		if (give_up_at == 0)
			give_up_at = began_ms + l->client->submit_ms;
		left = give_up_at - clock_mono_ms();
		if (!link_may_heal(l->client, e) || left <= 0)
			return -1;
		link_pause(tries++, left);
	}
	return 0;
}

int adwuma_submit_many(adwuma *client, struct adwuma_job *jobs, size_t njobs, struct adwuma_error *err)
{
	struct sigpipe sigpipe;
	struct error e = {0};
	struct link *l;
	int rc;

	if (!client)
		return lib_no_client(err);
	for (size_t i = 0; i < njobs; i++) {
		jobs[i].id[0] = '\0';
		jobs[i].error.code = ADWUMA_UNREACHABLE;
		snprintf(jobs[i].error.message, sizeof jobs[i].error.message, "not submitted");
	}
	sigpipe_block(&sigpipe);
	l = link_take(client, &e);
	rc = l ? submit_all(l, jobs, njobs, &e) : -1;
	if (l)
		link_give(l);
	sigpipe_restore(&sigpipe);
	if (rc)
		return lib_tell(err, &e);
	for (size_t i = 0; i < njobs; i++) {
		if (jobs[i].error.code == ADWUMA_OK)
			continue;
		if (err)
			*err = jobs[i].error;
		return -1;
	}
	return 0;
}

int adwuma_submit(adwuma *client, const char *queue, const char *job_json, size_t job_len, char id[ADWUMA_ID_MAX + 1],
		  struct adwuma_error *err)
{
	struct adwuma_job job = {.queue = queue, .json = job_json ? job_json : "", .len = job_json ? job_len : 0};

	if (adwuma_submit_many(client, &job, 1, err))
		return -1;
	memcpy(id, job.id, sizeof job.id);
	return 0;
}
