/* SPDX-License-Identifier: MIT
 *
 * doctor: the services, asked for what costs nothing: Khaya for its languages, TaskingAI for a list of one. Keys are used and never shown. */
#include <stdio.h>
#include <string.h>

#include "api/api.h"
#include "api/catalogue.h"
#include "cli/doctor.h"

#define ANSWER_MS 10000
#define ANSWER_BYTES_MAX (4UL * 1024 * 1024)
#define LIST_OF_ONE "{\"id\":\"doctor\",\"type\":\"taskingai.list_assistants\",\"params\":{\"limit\":1}}"

/* The variables that say where a service is, and what its key is. */
struct place {
	const char *url, *key;
};

/* --- Before any call. --------------------------------------------------------------------------------------------- */

static bool is_loopback(const char *url)
{
	static const char *const hosts[] = {"http://127.0.0.1", "http://localhost", "http://[::1]"};

	for (size_t i = 0; i < sizeof hosts / sizeof *hosts; i++)
		if (strncmp(url, hosts[i], strlen(hosts[i])) == 0)
			return true;
	return false;
}

static bool is_open(struct doctor *d, const char *variable, const char *url)
{
	char set[DOCTOR_TEXT_MAX];

	if (strncmp(url, "https://", 8) == 0 || is_loopback(url))
		return false;
	found(d, FOUND_WARN, "%s speaks plain http: keys and jobs can be read on their way", variable);
	mend(d, "%shttps://…    # and no allow_http_hosts", set_of(d, variable, set));
	return true;
}

void doctor_urls(struct doctor *d)
{
	const struct settings *s = d->settings;
	bool open = is_open(d, "KHAYA_BASE_URL", s->khaya_base_url);

	open = is_open(d, "TASKINGAI_HOST", s->taskingai_host) || open;
	if (!open)
		found(d, FOUND_OK, "%s",
		      is_loopback(s->khaya_base_url) || is_loopback(s->taskingai_host) ? "https, or on this machine"
										       : "https");
}

void doctor_certificates(struct doctor *d)
{
	const char *file = d->settings->api_ca_file;
	struct error err = {0};

	if (!file || http_check_ca_file(file, &err) == 0)
		d->shared = http_shared_new(file, &err);
	d->http = d->shared ? http_new(d->shared, &err) : NULL;
	if (d->http) {
		found(d, FOUND_OK, "%s%s", file ? "of " : "the system's CA bundle", file ? file : "");
		return;
	}
	found(d, FOUND_BAD, "%s", err.msg);
	mend(d, file ? "unset ADWUMA_API_CA_FILE    # or let it name a file of CA certificates in PEM form"
		     : "apt-get install ca-certificates");
}

void doctor_close_api(struct doctor *d)
{
	http_free(d->http);
	http_shared_free(d->shared);
}

/* --- What came of a call. ----------------------------------------------------------------------------------------- */

static void tell_no_answer(struct doctor *d, const struct place *place, const struct outcome *out)
{
	const char *message = buf_cstr(&out->fault.message);
	char set[DOCTOR_TEXT_MAX];

	d->unreachable = true;
	found(d, FOUND_BAD, "no answer: %s", message);
	if (strstr(message, "certificate"))
		mend(d, "%sFILE    # the certificates of those who vouch for it; where %s is right",
		     set_of(d, "ADWUMA_API_CA_FILE", set), place->url);
	else
		mend(d, "%shttps://…    # the right place; or let this machine's network reach it",
		     set_of(d, place->url, set));
}

static void tell_fault(struct doctor *d, const struct place *place, const struct outcome *out)
{
	const struct fault *f = &out->fault;
	char word[DOCTOR_TEXT_MAX];

	if (strcmp(f->type, "AuthenticationError") == 0 || f->status_code == 401) {
		found(d, FOUND_BAD, "the key is refused: %s (%d)", buf_cstr(&f->message), f->status_code);
		mend_secret(d, place->key, "this key is not valid there");
	} else if (out->kind == OUTCOME_RETRY || f->status_code == 429) {
		found(d, FOUND_WARN, "it answers, but does no work now: %s (%d)", buf_cstr(&f->message),
		      f->status_code);
		mend(d, "sleep 60; adwuma doctor%s    # workers try again by themselves", given(d, NULL, word));
	} else if (f->status_code == 403) {
		found(d, FOUND_BAD, "the key may not do this, or its quota is used up: %s (403)",
		      buf_cstr(&f->message));
		mend_secret(d, place->key, "another key, or a larger quota of this one");
	} else {
		found(d, FOUND_BAD, "it answers, but not as this API does: %s (%d)", buf_cstr(&f->message),
		      f->status_code);
		mend(d, "%shttps://…    # is this the root of the API?", set_of(d, place->url, word));
	}
}

static void tell(struct doctor *d, const struct place *place, const struct http_response *resp,
		 const struct outcome *out)
{
	if (out->kind == OUTCOME_SUCCEEDED)
		found(d, FOUND_OK, "the key is taken; answer in %.0f ms", resp->elapsed_ms);
	else if (resp->end == HTTP_ANSWERED || resp->end == HTTP_TOO_LARGE)
		tell_fault(d, place, out);
	else
		tell_no_answer(d, place, out);
}

/* Neither could be put into a request. */
static void mend_bad_key(struct doctor *d, const struct place *place)
{
	char comment[128];

	snprintf(comment, sizeof comment, "a key is one line of plain characters; %s is the place", place->url);
	mend_secret(d, place->key, comment);
}

static void tell_no_key(struct doctor *d, const struct place *place, const char *jobs)
{
	found(d, FOUND_WARN, "no key, so not asked: %s jobs fail with AuthenticationError", jobs);
	mend_secret(d, place->key, "where such jobs are wanted");
}

/* --- Khaya. ------------------------------------------------------------------------------------------------------- */

static void ask_khaya(struct doctor *d, const struct place *place, enum catalogue_kind kind, struct http_target *target)
{
	struct http_request req = {.target = target,
				   .method = "GET",
				   .timeout_ms = ANSWER_MS,
				   .max_response_bytes = ANSWER_BYTES_MAX};
	struct http_response resp = {0};
	struct catalogue c = {0};
	struct outcome out;

	outcome_init(&out);
	http_perform(d->http, &req, &resp);
	catalogue_read(kind, d->settings, &resp, &c, &out);
	tell(d, place, &resp, &out);
	d->khaya_away = out.kind != OUTCOME_SUCCEEDED && resp.status == 0;
	catalogue_release(&c);
	outcome_release(&out);
}

/* own: the key of this service alone, NULL where it has none. */
static void check_khaya(struct doctor *d, enum catalogue_kind kind, const char *own, const char *own_variable)
{
	const struct place place = {"KHAYA_BASE_URL", own && *own ? own_variable : "KHAYA_API_KEY"};
	char flags[DOCTOR_TEXT_MAX];
	struct error err = {0};
	struct http_target *target;

	if (!settings_khaya_key(d->settings, own)) {
		tell_no_key(d, &place, d->check + sizeof "api");
		return;
	}
	if (d->khaya_away) {
		found(d, FOUND_WARN, "not asked: it is at the same place");
		mend(d, "adwuma doctor%s    # once the one above is mended", given(d, NULL, flags));
		return;
	}
	target = catalogue_target(kind, d->settings, &err);
	if (target) {
		ask_khaya(d, &place, kind, target);
	} else {
		found(d, FOUND_BAD, "%s", err.msg);
		mend_bad_key(d, &place);
	}
	http_target_free(target);
}

void doctor_translate(struct doctor *d)
{
	check_khaya(d, CATALOGUE_TRANSLATE, d->settings->khaya_translation_api_key, "KHAYA_TRANSLATION_API_KEY");
}

void doctor_transcribe(struct doctor *d)
{
	check_khaya(d, CATALOGUE_ASR, d->settings->khaya_asr_api_key, "KHAYA_ASR_API_KEY");
}

void doctor_synthesize(struct doctor *d)
{
	check_khaya(d, CATALOGUE_TTS, d->settings->khaya_tts_api_key, "KHAYA_TTS_API_KEY");
}

/* --- TaskingAI. --------------------------------------------------------------------------------------------------- */

static void ask_taskingai(struct doctor *d, const struct place *place, const struct api *api, struct job *job)
{
	struct http_response resp = {0};
	struct outcome out;
	struct call call;

	call_init(&call);
	outcome_init(&out);
	if (api_build(api, job, &call, &out) == 0) {
		call.request.timeout_ms = ANSWER_MS;
		call.request.max_response_bytes = ANSWER_BYTES_MAX;
		http_perform(d->http, &call.request, &resp);
		api_read(api, job, &call, &resp, &out);
		tell(d, place, &resp, &out);
	} else {
		tell_fault(d, place, &out);
	}
	outcome_release(&out);
	call_release(&call);
}

void doctor_taskingai(struct doctor *d)
{
	const struct place place = {"TASKINGAI_HOST", "TASKINGAI_API_KEY"};
	struct fault fault = {0};
	struct error err = {0};
	struct job job = {0};
	struct api *api;

	if (!d->settings->taskingai_api_key) {
		tell_no_key(d, &place, "taskingai");
		return;
	}
	fault_init(&fault);
	api = api_new(d->settings, &err);
	if (!api) {
		found(d, FOUND_BAD, "%s", err.msg);
		mend_bad_key(d, &place);
	} else if (job_parse(&job, LIST_OF_ONE, sizeof LIST_OF_ONE - 1, "taskingai", sizeof LIST_OF_ONE, &fault) == 0) {
		ask_taskingai(d, &place, api, &job);
	}
	job_release(&job);
	api_free(api);
	fault_release(&fault);
}
