/* SPDX-License-Identifier: MIT
 *
 * The producers' library: what it makes of a job's text, and the public functions against a Redis of their own. Each
 * test with a Redis starts one on a socket in a new folder and ends it; nothing is waited for but that it answers. */
#include <check.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "adwuma.h"
#include "base/clock.h"
#include "lib/draft.h"
#include "lib/sigpipe.h"

#define MAX_JOB 4096
#define START_MS 10000

/* --- Drafts: no Redis. -------------------------------------------------------------------------------------------- */

static struct buf scratch;
static struct draft draft;
static struct error error;

static void draft_setup(void)
{
	scratch = BUF_INIT(MAX_JOB);
	draft = (struct draft){0};
	error = (struct error){0};
}

static void draft_teardown(void)
{
	buf_release(&scratch);
}

static int make(const char *queue, const char *json)
{
	return draft_make(&draft, queue, json, strlen(json), NULL, &scratch, &error);
}

static const char *payload(void)
{
	static char text[MAX_JOB + 1];

	snprintf(text, sizeof text, "%.*s", (int)draft.payload.len, draft.payload.ptr);
	return text;
}

/* The payload once the id that was made is replaced by ID. */
static const char *payload_with_id_hidden(void)
{
	static char text[MAX_JOB + 1];
	const char *all = payload(), *at = strstr(all, draft.id);

	ck_assert_ptr_nonnull(at);
	snprintf(text, sizeof text, "%.*sID%s", (int)(at - all), all, at + strlen(draft.id));
	return text;
}

START_TEST(a_job_with_an_id_stays_as_it_is)
{
	static const char json[] = " {\"n\": 9007199254740993, \"id\" : \"a.B_c:d-1\", \"type\":\"translate\"}\n";

	ck_assert_int_eq(make(NULL, json), 0);
	ck_assert_ptr_eq(draft.payload.ptr, json);
	ck_assert_str_eq(payload(), json);
	ck_assert_str_eq(draft.id, "a.B_c:d-1");
	ck_assert_str_eq(draft.queue, "translate");
}
END_TEST

START_TEST(a_missing_id_is_put_in)
{
	static const struct {
		const char *json, *expected;
	} cases[] = {
		{"{}", "{\"id\":\"ID\"}"},
		{" { } ", " {\"id\":\"ID\"} "},
		{"{\"text\":\"x\"}", "{\"id\":\"ID\",\"text\":\"x\"}"},
		{"{\"id\":null}", "{\"id\":\"ID\"}"},
		{"{\"id\":null,\"text\":\"x\",\"id\": null }", "{\"id\":null,\"text\":\"x\",\"id\": \"ID\" }"},
		{"{\"text\":{\"id\":\"inner\"}}", "{\"id\":\"ID\",\"text\":{\"id\":\"inner\"}}"},
	};

	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		ck_assert_int_eq(make("q", cases[i].json), 0);
		ck_assert_str_eq(payload_with_id_hidden(), cases[i].expected);
		ck_assert(draft_is_id(draft.id, strlen(draft.id)));
		ck_assert_uint_ge(strlen(draft.id), 26);
	}
}
END_TEST

START_TEST(a_wanted_id_is_taken)
{
	ck_assert_int_eq(draft_make(&draft, "q", "{}", 2, "mine", &scratch, &error), 0);
	ck_assert_str_eq(payload(), "{\"id\":\"mine\"}");
	ck_assert_str_eq(draft.id, "mine");
}
END_TEST

START_TEST(the_last_of_several_members_counts)
{
	ck_assert_int_eq(make(NULL,
			      "{\"id\":\"a\",\"type\":\"x\",\"id\":\"b\",\"type\":\"taskingai.chat_completion\"}"),
			 0);
	ck_assert_str_eq(draft.id, "b");
	ck_assert_str_eq(draft.queue, "taskingai");
}
END_TEST

START_TEST(the_queue_named_beats_the_type)
{
	ck_assert_int_eq(make("bulk.2", "{\"id\":\"a\",\"type\":\"translate\"}"), 0);
	ck_assert_str_eq(draft.queue, "bulk.2");
}
END_TEST

START_TEST(bad_jobs_are_refused_with_the_reason)
{
	static const struct {
		const char *queue, *json, *reason;
	} cases[] = {
		{"q", "", "not JSON"},
		{"q", "{\"id\":\"a\"", "not JSON"},
		{"q", "[1]", "not a JSON object"},
		{"q", "\"x\"", "not a JSON object"},
		{"q", "{\"id\":\"a\",\"text\":\"\xff\"}", "not UTF-8"},
		{"q", "{\"id\":42}", "\"id\" must be"},
		{"q", "{\"id\":\"\"}", "\"id\" must be"},
		{"q", "{\"id\":\"a b\"}", "\"id\" must be"},
		{"q", "{\"id\":\"a\\u0000\"}", "\"id\" must be"},
		{"q", "{\"id\":\"a{b}\"}", "\"id\" must be"},
		{NULL, "{\"id\":\"a\"}", "queue must be named"},
		{NULL, "{\"type\":null}", "queue must be named"},
		{NULL, "{\"type\":1}", "names no queue"},
		{NULL, "{\"type\":\"\"}", "names no queue"},
		{NULL, "{\"type\":\".x\"}", "names no queue"},
		{NULL, "{\"type\":\"Big\"}", "names no queue"},
		{"", "{}", "is no queue name"},
		{"a}b", "{}", "is no queue name"},
		{"-a", "{}", "is no queue name"},
	};

	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		ck_assert_msg(make(cases[i].queue, cases[i].json) == -1, "accepted: %s", cases[i].json);
		ck_assert_int_eq(error.code, ERR_INVALID);
		ck_assert_msg(strstr(error.msg, cases[i].reason) != NULL, "'%s' for %s", error.msg, cases[i].json);
	}
}
END_TEST

START_TEST(an_id_has_128_characters_at_most)
{
	char json[200], id[130];

	memset(id, 'x', 129);
	id[129] = '\0';
	snprintf(json, sizeof json, "{\"id\":\"%s\"}", id);
	ck_assert_int_eq(make("q", json), -1);
	snprintf(json, sizeof json, "{\"id\":\"%s\"}", id + 1);
	ck_assert_int_eq(make("q", json), 0);
}
END_TEST

START_TEST(deep_and_large_jobs_are_refused)
{
	char json[MAX_JOB + 2];
	size_t n = 0;

	n += (size_t)snprintf(json, sizeof json, "{\"id\":\"a\",\"x\":");
	memset(json + n, '[', 300);
	memset(json + n + 300, ']', 300);
	memcpy(json + n + 600, "}", 2);
	ck_assert_int_eq(make("q", json), -1);
	ck_assert_ptr_nonnull(strstr(error.msg, "nested deeper than 200"));

	/* Exactly the bound with its id; then one byte more; then without an id, where there is no room to put one in.
	 */
	memset(json, ' ', sizeof json);
	memcpy(json, "{\"id\":\"a\"}", 10);
	json[MAX_JOB] = '\0';
	ck_assert_int_eq(make("q", json), 0);
	json[MAX_JOB] = ' ';
	json[MAX_JOB + 1] = '\0';
	ck_assert_int_eq(make("q", json), -1);
	memcpy(json, "{        }", 10);
	json[MAX_JOB] = '\0';
	ck_assert_int_eq(make("q", json), -1);
	ck_assert_ptr_nonnull(strstr(error.msg, "max_job_bytes"));
}
END_TEST

START_TEST(ids_differ_and_follow_time)
{
	char a[ADWUMA_ID_MAX + 1], b[ADWUMA_ID_MAX + 1], later[ADWUMA_ID_MAX + 1];
	int64_t start = clock_real_ms();

	adwuma_new_id(a);
	adwuma_new_id(b);
	ck_assert_str_ne(a, b);
	while (clock_real_ms() <= start + 1)
		adwuma_new_id(b);
	adwuma_new_id(later);
	ck_assert_str_lt(a, later);
}
END_TEST

/* --- SIGPIPE: no Redis. ------------------------------------------------------------------------------------------- */

static void raise_by_writing(void)
{
	int ends[2];

	ck_assert_int_eq(pipe(ends), 0);
	close(ends[0]);
	ck_assert_int_eq(write(ends[1], "x", 1), -1);
	close(ends[1]);
}

static bool is_pending(void)
{
	sigset_t pending;

	sigemptyset(&pending);
	sigpending(&pending);
	return sigismember(&pending, SIGPIPE) == 1;
}

START_TEST(sigpipe_is_swallowed_and_the_mask_put_back)
{
	struct sigpipe guard;
	sigset_t mask;

	sigpipe_block(&guard);
	raise_by_writing();
	ck_assert(is_pending());
	sigpipe_restore(&guard); /* else it would kill this process now */
	ck_assert(!is_pending());
	pthread_sigmask(SIG_SETMASK, NULL, &mask);
	ck_assert_int_eq(sigismember(&mask, SIGPIPE), 0);
}
END_TEST

START_TEST(the_hosts_own_pending_sigpipe_stays)
{
	struct sigpipe guard;
	sigset_t mask;

	sigemptyset(&mask);
	sigaddset(&mask, SIGPIPE);
	pthread_sigmask(SIG_BLOCK, &mask, NULL);
	raise_by_writing();
	sigpipe_block(&guard);
	raise_by_writing();
	sigpipe_restore(&guard);
	ck_assert(is_pending());
	pthread_sigmask(SIG_SETMASK, NULL, &mask);
	ck_assert_int_eq(sigismember(&mask, SIGPIPE), 1);
}
END_TEST

/* --- With a Redis. ------------------------------------------------------------------------------------------------ */

static char folder[] = "/tmp/adwuma-test-lib-XXXXXX";
static char url[128], socket_path[100];
static pid_t server;
static adwuma *client;
static struct adwuma_error failed;

static bool redis_says(const char *arguments, const char *expected)
{
	char command[512], line[512] = "";
	FILE *f;

	snprintf(command, sizeof command, "redis-cli -s %s %s 2>&1", socket_path, arguments);
	f = popen(command, "r");
	ck_assert_ptr_nonnull(f);
	ck_assert_ptr_nonnull(fgets(line, sizeof line, f));
	pclose(f);
	line[strcspn(line, "\n")] = '\0';
	return strcmp(line, expected) == 0;
}

static void start_server(void)
{
	const char *program = getenv("ADWUMA_REDIS_SERVER") ? getenv("ADWUMA_REDIS_SERVER") : "redis-server";
	int64_t deadline = clock_mono_ms() + START_MS;

	server = fork();
	ck_assert_int_ge(server, 0);
	if (server == 0) {
		/* A test that fails is ended where it stands; its server must not stay behind. */
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		execlp(program, program, "--port", "0", "--unixsocket", socket_path, "--dir", folder, "--appendonly",
		       "yes", "--appendfsync", "no", "--logfile", "redis.log", (char *)NULL);
		_exit(127);
	}
	while (!redis_says("ping", "PONG")) {
		ck_assert_msg(clock_mono_ms() < deadline, "%s does not answer", program);
		ck_assert_msg(waitpid(server, NULL, WNOHANG) == 0, "%s did not start", program);
		nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
	}
}

static void stop_server(void)
{
	if (server <= 0)
		return;
	kill(server, SIGKILL);
	waitpid(server, NULL, 0);
	unlink(socket_path);
	server = 0;
}

static adwuma *open_client(const char *redis_url)
{
	struct adwuma_options options = {.redis_url = redis_url, .key_prefix = "test", .max_job_bytes = MAX_JOB};
	adwuma *c = adwuma_open(&options, &failed);

	ck_assert_msg(c != NULL, "%s", failed.message);
	return c;
}

static void redis_setup(void)
{
	ck_assert_ptr_nonnull(mkdtemp(folder));
	snprintf(socket_path, sizeof socket_path, "%s/r.sock", folder);
	snprintf(url, sizeof url, "unix://%s", socket_path);
	start_server();
	client = open_client(url);
}

static void redis_teardown(void)
{
	char command[160];

	adwuma_close(client);
	stop_server();
	snprintf(command, sizeof command, "rm -r '%s'", folder);
	ck_assert_int_eq(system(command), 0);
}

/* What a worker would do, over a client of its own: the library has no call for it. */
static void redis_cli(const char *arguments)
{
	char command[1024];

	snprintf(command, sizeof command, "redis-cli -s %s %s > /dev/null", socket_path, arguments);
	ck_assert_int_eq(system(command), 0);
}

static void put_result(const char *id)
{
	char arguments[256];

	snprintf(arguments, sizeof arguments,
		 "eval \"redis.call('rpush', KEYS[1], ARGV[1]) redis.call('pexpire', KEYS[1], 60000)\" 1 "
		 "'test:{q}:result:%s' '{\"id\":\"%s\"}'",
		 id, id);
	redis_cli(arguments);
}

START_TEST(jobs_enter_their_lists_in_order)
{
	struct adwuma_job jobs[] = {
		{.queue = "q", .json = "{\"id\":\"1\"}", .len = 10},
		{.queue = "q", .json = "nonsense", .len = 8},
		{.queue = "p", .json = "{\"id\":\"2\"}", .len = 10},
		{.queue = "q", .json = "{\"id\":\"3\"}", .len = 10},
	};

	ck_assert_int_eq(adwuma_submit_many(client, jobs, 4, &failed), -1);
	ck_assert_int_eq(failed.code, ADWUMA_INVALID);
	ck_assert_int_eq(jobs[1].error.code, ADWUMA_INVALID);
	ck_assert_str_eq(jobs[1].id, "");
	ck_assert_int_eq(jobs[0].error.code, ADWUMA_OK);
	ck_assert_str_eq(jobs[3].id, "3");
	ck_assert(redis_says("llen 'test:{q}:ready'", "2"));
	ck_assert(redis_says("lindex 'test:{q}:ready' -1", "{\"id\":\"1\"}"));
	ck_assert(redis_says("lindex 'test:{q}:ready' 0", "{\"id\":\"3\"}"));
	ck_assert(redis_says("lindex 'test:{p}:ready' 0", "{\"id\":\"2\"}"));
}
END_TEST

START_TEST(many_jobs_need_many_trips)
{
	static struct adwuma_job jobs[5001];
	size_t n = sizeof jobs / sizeof *jobs;

	for (size_t i = 0; i < n; i++)
		jobs[i] = (struct adwuma_job){.queue = "q", .json = "{\"a\":1}", .len = 7};
	ck_assert_int_eq(adwuma_submit_many(client, jobs, n, &failed), 0);
	ck_assert(redis_says("llen 'test:{q}:ready'", "5001"));
	for (size_t i = 1; i < n; i++)
		ck_assert_str_ne(jobs[i - 1].id, jobs[i].id);
}
END_TEST

START_TEST(a_refused_push_is_told)
{
	char id[ADWUMA_ID_MAX + 1];

	redis_cli("set 'test:{q}:ready' x");
	ck_assert_int_eq(adwuma_submit(client, "q", "{}", 2, id, &failed), -1);
	ck_assert_int_eq(failed.code, ADWUMA_UNREACHABLE);
	ck_assert_ptr_nonnull(strstr(failed.message, "WRONGTYPE"));
	ck_assert_int_eq(adwuma_submit(client, "p", "{}", 2, id, &failed), 0);
}
END_TEST

START_TEST(a_result_stays_and_keeps_its_expiry)
{
	char *json = NULL;

	put_result("a");
	for (int i = 0; i < 2; i++) {
		ck_assert_int_eq(adwuma_wait(client, "q", "a", 5000, &json, &failed), 0);
		ck_assert_str_eq(json, "{\"id\":\"a\"}");
		adwuma_free(json);
	}
	ck_assert_int_eq(adwuma_wait(client, "q", "a", 0, &json, &failed), 0);
	adwuma_free(json);
	ck_assert(!redis_says("pttl 'test:{q}:result:a'", "-1"));
	ck_assert(redis_says("llen 'test:{q}:result:a'", "1"));
}
END_TEST

START_TEST(a_wait_ends_at_its_time)
{
	int64_t start = clock_mono_ms();
	char *json = NULL;

	ck_assert_int_eq(adwuma_wait(client, "q", "none", 0, &json, &failed), -1);
	ck_assert_int_eq(failed.code, ADWUMA_TIMEOUT);
	ck_assert_int_eq(adwuma_wait(client, "q", "none", 150, &json, &failed), -1);
	ck_assert_int_eq(failed.code, ADWUMA_TIMEOUT);
	ck_assert_int_ge(clock_mono_ms() - start, 150);
	ck_assert_ptr_null(json);
}
END_TEST

struct wait {
	const char *id;
	int rc;
	char *json;
};

static void *wait_long(void *arg)
{
	struct wait *w = arg;

	w->rc = adwuma_wait(client, "q", w->id, 30000, &w->json, &failed);
	return NULL;
}

/* Starts a wait in another thread, and returns when it blocks in Redis. */
static pthread_t start_wait(struct wait *w)
{
	pthread_t thread;

	ck_assert_int_eq(pthread_create(&thread, NULL, wait_long, w), 0);
	while (!redis_says("info clients | grep -c blocked_clients:1", "1"))
		;
	return thread;
}

START_TEST(a_wait_wakes_up_when_the_result_comes)
{
	struct wait w = {.id = "b"};
	pthread_t waiter = start_wait(&w);

	put_result("b");
	pthread_join(waiter, NULL);
	ck_assert_int_eq(w.rc, 0);
	ck_assert_str_eq(w.json, "{\"id\":\"b\"}");
	adwuma_free(w.json);
	ck_assert(redis_says("llen 'test:{q}:result:b'", "1"));
}
END_TEST

START_TEST(a_wait_outlives_a_restart_of_redis)
{
	struct wait w = {.id = "c"};
	pthread_t waiter = start_wait(&w);

	stop_server();
	start_server();
	put_result("c");
	pthread_join(waiter, NULL);
	ck_assert_msg(w.rc == 0, "%s", failed.message);
	ck_assert_str_eq(w.json, "{\"id\":\"c\"}");
	adwuma_free(w.json);
}
END_TEST

/* A full Redis refuses the waiting command, which counts as a write; the result that is there must be seen all the
 * same. */
START_TEST(a_full_redis_still_shows_results)
{
	char *json = NULL, id[ADWUMA_ID_MAX + 1];
	int64_t start;

	put_result("d");
	redis_cli("config set maxmemory 1");
	start = clock_mono_ms();
	ck_assert_int_eq(adwuma_wait(client, "q", "d", 20000, &json, &failed), 0);
	ck_assert_int_lt(clock_mono_ms() - start, 10000);
	ck_assert_str_eq(json, "{\"id\":\"d\"}");
	adwuma_free(json);
	ck_assert_int_eq(adwuma_submit(client, "q", "{}", 2, id, &failed), -1);
	ck_assert_int_eq(failed.code, ADWUMA_UNREACHABLE);
	ck_assert_ptr_nonnull(strstr(failed.message, "OOM"));
}
END_TEST

/* SIGPIPE has its default here: one that got out would kill this process. */
START_TEST(a_submit_goes_again_over_a_new_connection)
{
	char id[ADWUMA_ID_MAX + 1];

	signal(SIGPIPE, SIG_DFL);
	ck_assert_int_eq(adwuma_submit(client, "q", "{}", 2, id, &failed), 0);
	stop_server();
	start_server();
	ck_assert_int_eq(adwuma_submit(client, "q", "{}", 2, id, &failed), 0);
	ck_assert_int_eq(adwuma_submit(client, "q", "{}", 2, id, NULL), 0);
}
END_TEST

START_TEST(no_redis_is_told_with_its_place)
{
	struct adwuma_options options = {.redis_url = "redis://:hush@127.0.0.1:1/0", .submit_timeout_ms = 200};
	adwuma *lost = adwuma_open(&options, &failed);
	char id[ADWUMA_ID_MAX + 1], *json = NULL;

	ck_assert_ptr_nonnull(lost);
	ck_assert_int_eq(adwuma_submit(lost, "q", "{}", 2, id, &failed), -1);
	ck_assert_int_eq(failed.code, ADWUMA_UNREACHABLE);
	ck_assert_ptr_nonnull(strstr(failed.message, "127.0.0.1:1"));
	ck_assert_ptr_null(strstr(failed.message, "hush"));
	/* Where it never was there, nothing can have been handed to it that would be worth waiting for. */
	ck_assert_int_eq(adwuma_wait(lost, "q", "a", 60000, &json, &failed), -1);
	ck_assert_int_eq(failed.code, ADWUMA_UNREACHABLE);
	adwuma_close(lost);
}
END_TEST

START_TEST(audio_goes_in_and_out)
{
	size_t n = 3 * 1024 * 1024 + 7, len = 0; /* more than three replies of a mebibyte */
	char *audio = malloc(n), *back = NULL, key[256], *tiny = NULL;

	for (size_t i = 0; i < n; i++)
		audio[i] = (char)(i * 2654435761U >> 13);
	ck_assert_int_eq(adwuma_put_audio(client, "q", "name", audio, n, 60, key, sizeof key, &failed), 0);
	ck_assert_str_eq(key, "test:{q}:audio:name");
	ck_assert(!redis_says("ttl 'test:{q}:audio:name'", "-1"));
	ck_assert_int_eq(adwuma_get_audio(client, key, &back, &len, &failed), 0);
	ck_assert_uint_eq(len, n);
	ck_assert_mem_eq(back, audio, n);
	adwuma_free(back);
	ck_assert_int_eq(adwuma_put_audio(client, "q", "whole", audio, 1024 * 1024, 60, key, sizeof key, &failed), 0);
	ck_assert_int_eq(adwuma_get_audio(client, key, &tiny, &len, &failed), 0);
	ck_assert_uint_eq(len, 1024 * 1024);
	adwuma_free(tiny);
	free(audio);
}
END_TEST

START_TEST(bad_audio_arguments_are_refused)
{
	char key[256], *back = NULL;
	size_t len = 0;

	ck_assert_int_eq(adwuma_get_audio(client, "test:{q}:audio:gone", &back, &len, &failed), -1);
	ck_assert_int_eq(failed.code, ADWUMA_MISSING);
	ck_assert_int_eq(adwuma_get_audio(client, "test:{q}:result:a", &back, &len, &failed), -1);
	ck_assert_int_eq(failed.code, ADWUMA_INVALID);
	ck_assert_int_eq(adwuma_put_audio(client, "q", "a b", "x", 1, 60, key, sizeof key, &failed), -1);
	ck_assert_int_eq(failed.code, ADWUMA_INVALID);
	ck_assert_int_eq(adwuma_put_audio(client, "q", "a", "x", 1, 0, key, sizeof key, &failed), -1);
	ck_assert_int_eq(failed.code, ADWUMA_INVALID);
	ck_assert_int_eq(adwuma_put_audio(client, "q", "a", "x", 1, 60, key, 5, &failed), -1);
	ck_assert_int_eq(failed.code, ADWUMA_INVALID);
}
END_TEST

START_TEST(bad_names_and_settings_are_refused)
{
	struct adwuma_options options = {.redis_url = "ftp://x"};
	char *json = NULL;

	ck_assert_ptr_null(adwuma_open(&options, &failed));
	ck_assert_int_eq(failed.code, ADWUMA_CONFIG);
	options = (struct adwuma_options){.key_prefix = "a{b"};
	ck_assert_ptr_null(adwuma_open(&options, &failed));
	ck_assert_int_eq(failed.code, ADWUMA_CONFIG);
	ck_assert_int_eq(adwuma_wait(client, "Q", "a", 0, &json, &failed), -1);
	ck_assert_int_eq(failed.code, ADWUMA_INVALID);
	ck_assert_int_eq(adwuma_wait(client, "q", "a b", 0, &json, &failed), -1);
	ck_assert_int_eq(failed.code, ADWUMA_INVALID);
	adwuma_close(NULL);
	adwuma_free(NULL);
}
END_TEST

static TCase *draft_tests(void)
{
	TCase *t = tcase_create("draft");

	tcase_add_checked_fixture(t, draft_setup, draft_teardown);
	tcase_add_test(t, a_job_with_an_id_stays_as_it_is);
	tcase_add_test(t, a_missing_id_is_put_in);
	tcase_add_test(t, a_wanted_id_is_taken);
	tcase_add_test(t, the_last_of_several_members_counts);
	tcase_add_test(t, the_queue_named_beats_the_type);
	tcase_add_test(t, bad_jobs_are_refused_with_the_reason);
	tcase_add_test(t, an_id_has_128_characters_at_most);
	tcase_add_test(t, deep_and_large_jobs_are_refused);
	tcase_add_test(t, ids_differ_and_follow_time);
	tcase_add_test(t, sigpipe_is_swallowed_and_the_mask_put_back);
	tcase_add_test(t, the_hosts_own_pending_sigpipe_stays);
	return t;
}

static TCase *redis_tests(void)
{
	TCase *t = tcase_create("redis");

	tcase_set_timeout(t, 60);
	tcase_add_checked_fixture(t, redis_setup, redis_teardown);
	tcase_add_test(t, jobs_enter_their_lists_in_order);
	tcase_add_test(t, many_jobs_need_many_trips);
	tcase_add_test(t, a_refused_push_is_told);
	tcase_add_test(t, a_result_stays_and_keeps_its_expiry);
	tcase_add_test(t, a_wait_ends_at_its_time);
	tcase_add_test(t, a_wait_wakes_up_when_the_result_comes);
	tcase_add_test(t, a_wait_outlives_a_restart_of_redis);
	tcase_add_test(t, a_full_redis_still_shows_results);
	tcase_add_test(t, a_submit_goes_again_over_a_new_connection);
	tcase_add_test(t, no_redis_is_told_with_its_place);
	tcase_add_test(t, audio_goes_in_and_out);
	tcase_add_test(t, bad_audio_arguments_are_refused);
	tcase_add_test(t, bad_names_and_settings_are_refused);
	return t;
}

int main(void)
{
	Suite *suite = suite_create("lib");
	SRunner *runner;
	int failures;

	suite_add_tcase(suite, draft_tests());
	suite_add_tcase(suite, redis_tests());
	runner = srunner_create(suite);
	srunner_run_all(runner, CK_ENV);
	failures = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failures != 0;
}
