/* SPDX-License-Identifier: MIT
 *
 * What test_library.py has the library do, one act per run; results go to standard output, a line each. Also compiled as C++. */
#include <errno.h>
#include <malloc.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "adwuma.h"

#define MANY_MS 60000

static adwuma *client;
static struct adwuma_error err;
static int arg_n;
static char **arg;

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static long anon_kib(void)
{
	FILE *f = fopen("/proc/self/status", "r");
	char line[200];
	long kib = 0;

	while (f && fgets(line, sizeof line, f))
		if (sscanf(line, "RssAnon: %ld", &kib) == 1)
			break;
	if (f)
		fclose(f);
	return kib;
}

static int failed(const char *what)
{
	printf("%s %d %s\n", what, (int)err.code, err.message);
	fflush(stdout);
	return 1;
}

static void show(const adwuma_result *r)
{
	const struct adwuma_fault *f = adwuma_result_fault(r);

	if (f)
		printf("fault %s|%d|%s|%s|%s|%d|%s|%s\n", f->type, f->status_code, f->code ? f->code : "-", f->details,
		       f->activity_id ? f->activity_id : "-", f->retryable, f->service ? f->service : "-", f->message);
	else
		printf("text %s\nvalue %s\n", adwuma_result_text(r) ? adwuma_result_text(r) : "-",
		       adwuma_result_value(r));
}

/* N translations through handles, all gathered; each answer is compared. */
static int gather(void)
{
	size_t n = (size_t)atol(arg[0]);
	adwuma_handle **h = (adwuma_handle **)calloc(n, sizeof(adwuma_handle *));
	double began;
	long before;
	size_t results = 0;
	char text[64];

	memset(h, 1, n * sizeof *h); /* ours, not the library's */
	before = anon_kib();
	began = now();

	for (size_t i = 0; i < n; i++) {
		snprintf(text, sizeof text, "number %zu", i);
		h[i] = adwuma_atranslate(client, text, "en-tw", NULL, &err);
		if (!h[i])
			return failed("hand");
	}
	if (adwuma_gather(h, n, MANY_MS, &err))
		return failed("gather");
	printf("seconds %.4f\n", now() - began);
	for (size_t i = 0; i < n; i++)
		results += malloc_usable_size((void *)(size_t)adwuma_result_json(adwuma_handle_result(h[i]))) +
			   sizeof(size_t);
	printf("kib %ld\n", anon_kib() - before - (long)(results / 1024)); /* beside the texts of the results */
	for (size_t i = 0; i < n; i++) {
		const char *got = adwuma_result_text(adwuma_handle_result(h[i]));

		snprintf(text, sizeof text, "[tw] number %zu", i);
		if (!got || strcmp(got, text) != 0) {
			printf("wrong %zu: %s\n", i, got ? got : "nothing");
			return 1;
		}
		adwuma_handle_free(h[i]);
	}
	free(h);
	printf("all %zu\n", n);
	return 0;
}

/* N jobs by one submit_many. */
static int submit(void)
{
	size_t n = (size_t)atol(arg[0]);
	struct adwuma_job *jobs = (struct adwuma_job *)calloc(n, sizeof *jobs);
	char(*texts)[80] = (char(*)[80])calloc(n, 80);
	double began;

	for (size_t i = 0; i < n; i++) {
		jobs[i].len = (size_t)snprintf(texts[i], sizeof texts[i],
					       "{\"type\":\"translate\",\"text\":\"number %zu\"}", i);
		jobs[i].json = texts[i];
	}
	began = now();
	if (adwuma_submit_many(client, jobs, n, &err))
		return failed("submit");
	printf("rate %.0f\n", (double)n / (now() - began));
	free(texts);
	free(jobs);
	return 0;
}

/* N handles, handed over but not awaited. */
static int hand(void)
{
	size_t n = (size_t)atol(arg[0]);
	double began = now();
	adwuma_handle *h = NULL;

	for (size_t i = 0; i < n; i++) {
		h = adwuma_atranslate(client, "x", NULL, NULL, &err);
		if (!h)
			return failed("hand");
		if (i + 1 < n)
			adwuma_handle_free(h);
	}
	if (h && adwuma_handle_submitted(h, MANY_MS, &err))
		return failed("submitted");
	printf("rate %.0f\n", (double)n / (now() - began));
	fflush(stdout);
	return 0;
}

/* TYPE MEMBERS: both forms, one behind the other. */
static int both(void)
{
	struct adwuma_how how = {0};
	adwuma_handle *h = adwuma_a_call(client, arg[0], arg[1], NULL, &err);
	adwuma_result *r;

	how.deadline_ms = 20000;
	if (!h || adwuma_handle_wait(h, MANY_MS, &err))
		return failed("wait");
	show(adwuma_handle_result(h));
	if (adwuma_call(client, arg[0], arg[1], &how, &r, &err))
		return failed("call");
	show(r);
	adwuma_result_free(r);
	return 0;
}

/* As they end: M of which take S ms each, in that order. */
static int first(void)
{
	adwuma_handle *h[16] = {0};
	size_t n = (size_t)arg_n, which;

	for (size_t i = 0; i < n; i++)
		h[i] = adwuma_atranslate(client, arg[i], NULL, NULL, &err);
	for (size_t i = 0; i < n; i++) {
		if (adwuma_wait_first(h, n, getenv("ADWUMA_FIRST_MS") ? atol(getenv("ADWUMA_FIRST_MS")) : MANY_MS,
				      &which, &err))
			return failed("first");
		printf("%zu\n", which);
		h[which] = NULL;
	}
	if (adwuma_wait_first(h, n, 0, &which, &err) == 0 || err.code != ADWUMA_INVALID)
		return failed("none left");
	return 0;
}

/* An event loop: N handles, told of by the descriptor. */
static int loop(void)
{
	size_t n = (size_t)atol(arg[0]), seen = 0;
	struct pollfd p = {-1, POLLIN, 0};
	char text[64];

	p.fd = adwuma_fd(client, &err);
	if (p.fd < 0)
		return failed("fd");
	for (size_t i = 0; i < n; i++) {
		adwuma_handle *h;

		snprintf(text, sizeof text, "number %zu", i);
		h = adwuma_atranslate(client, text, NULL, NULL, &err);
		if (!h)
			return failed("hand");
		adwuma_handle_set_data(h, (void *)(i + 1));
	}
	while (seen < n) {
		adwuma_handle *h;

		if (poll(&p, 1, MANY_MS) != 1)
			return failed("poll");
		while ((h = adwuma_next_settled(client)) != NULL) {
			snprintf(text, sizeof text, "[tw] number %zu", (size_t)adwuma_handle_data(h) - 1);
			if (strcmp(text, adwuma_result_text(adwuma_handle_result(h))) != 0)
				return failed("wrong");
			adwuma_handle_free(h);
			seen++;
		}
	}
	printf("seen %zu\nleft %d\n", seen, poll(&p, 1, 0));
	return 0;
}

/* THREADS threads use one client in all ways at once, for N jobs each. */
static void *use(void *number)
{
	long bad = 0;
	char text[64], want[80];

	for (long i = 0; i < atol(arg[1]); i++) {
		struct adwuma_error e;
		adwuma_result *r = NULL;
		adwuma_handle *h;
		char id[ADWUMA_ID_MAX + 1], *json = NULL;

		snprintf(text, sizeof text, "thread %ld number %ld", (long)number, i);
		snprintf(want, sizeof want, "[tw] %s", text);
		switch (i % 3) {
		case 0:
			h = adwuma_atranslate(client, text, NULL, NULL, &e);
			bad += !h || adwuma_handle_wait(h, MANY_MS, &e) ||
			       strcmp(adwuma_result_text(adwuma_handle_result(h)), want) != 0;
			adwuma_handle_free(h);
			break;
		case 1:
			bad += adwuma_translate(client, text, NULL, NULL, &r, &e) || !adwuma_succeeded(r) ||
			       strcmp(adwuma_result_text(r), want) != 0;
			adwuma_result_free(r);
			break;
		default: {
			char job[200];
			int len = snprintf(job, sizeof job, "{\"type\":\"translate\",\"text\":\"%s\"}", text);

			bad += adwuma_submit(client, NULL, job, (size_t)len, id, &e) ||
			       adwuma_wait(client, "translate", id, MANY_MS, &json, &e) || !strstr(json, want);
			adwuma_free(json);
			break;
		}
		}
	}
	return (void *)bad;
}

static int threads(void)
{
	pthread_t t[64];
	long n = atol(arg[0]), bad = 0;

	for (long i = 0; i < n; i++)
		pthread_create(&t[i], NULL, use, (void *)i);
	for (long i = 0; i < n; i++) {
		void *wrong;

		pthread_join(t[i], &wrong);
		bad += (long)wrong;
	}
	printf("bad %ld\n", bad);
	return 0;
}

/* QUEUE ID [AFTER]: a stream's pieces. */
static int stream(void)
{
	adwuma_stream *s = adwuma_stream_open(client, arg[0], arg[1], arg_n > 2 ? arg[2] : NULL, &err);
	struct adwuma_piece piece;
	int rc;

	if (!s)
		return failed("open");
	while ((rc = adwuma_stream_next(s, 20000, &piece, &err)) == 1)
		printf("%s %s %s\n", piece.entry_id, piece.event, piece.data);
	adwuma_stream_close(s);
	return rc < 0 ? failed("next") : 0;
}

static void on_piece(void *ctx, const struct adwuma_piece *piece)
{
	(void)ctx;
	printf("%s %s\n", piece->event, piece->data);
}

/* MODEL MESSAGES: a chat's pieces, with a direct call. */
static int chat(void)
{
	struct adwuma_how how = {0};
	adwuma_result *r;

	how.piece = on_piece;
	if (adwuma_chat_completion(client, arg[0], arg[1], "{ \"stream\" : true }", &how, &r, &err))
		return failed("chat");
	show(r);
	adwuma_result_free(r);
	return 0;
}

/* FILE: transcribed from path and bytes in both forms; then TEXT synthesized in both. */
static int audio(void)
{
	struct adwuma_audio from = {0};
	adwuma_handle *h;
	adwuma_result *r;
	FILE *f = fopen(arg[0], "rb");
	char *bytes = (char *)malloc(1 << 20), *made;
	size_t len = f ? fread(bytes, 1, 1 << 20, f) : 0;

	if (f)
		fclose(f);
	for (int by_path = 0; by_path < 2; by_path++) {
		from.path = by_path ? arg[0] : NULL;
		from.bytes = by_path ? NULL : bytes;
		from.len = len;
		h = adwuma_atranscribe(client, &from, "twi", "word", NULL, &err);
		if (!h || adwuma_handle_wait(h, MANY_MS, &err))
			return failed("atranscribe");
		show(adwuma_handle_result(h));
		if (adwuma_transcribe(client, &from, "twi", "word", NULL, &r, &err))
			return failed("transcribe");
		show(r);
		adwuma_result_free(r);
	}
	h = adwuma_asynthesize(client, "Maakye", "twi", "female", NULL, &err);
	if (!h || adwuma_handle_wait(h, MANY_MS, &err) ||
	    adwuma_result_audio(client, adwuma_handle_result(h), &made, &len, &err))
		return failed("asynthesize");
	printf("made %.4s %zu\n", made, len);
	adwuma_free(made);
	if (adwuma_synthesize(client, "Maakye", "twi", "female", NULL, &r, &err) ||
	    adwuma_result_audio(client, r, &made, &len, &err))
		return failed("synthesize");
	printf("made %.4s %zu\n", made, len);
	adwuma_free(made);
	adwuma_result_free(r);
	from.key = "k";
	if (adwuma_atranscribe(client, &from, NULL, NULL, NULL, &err))
		return 1;
	failed("two");
	free(bytes);
	return 0;
}

/* ID: submitted twice, awaited by two handles; then once more when it is done. */
static int twice(void)
{
	struct adwuma_how how = {0};
	adwuma_handle *h[3];

	how.id = arg[0];
	for (int i = 0; i < 2; i++)
		h[i] = adwuma_atranslate(client, "once", NULL, &how, &err);
	if (adwuma_gather(h, 2, MANY_MS, &err))
		return failed("gather");
	h[2] = adwuma_atranslate(client, "other", NULL, &how, &err);
	if (adwuma_handle_wait(h[2], MANY_MS, &err))
		return failed("again");
	for (int i = 0; i < 3; i++)
		printf("%s\n", adwuma_result_text(adwuma_handle_result(h[i])));
	return 0;
}

/* A job for another queue, while one is waited for: whoever waits on the first list must be woken to watch the second. */
static int lanes(void)
{
	adwuma_handle *slow = adwuma_atranslate(client, "slow stub(delay=1500)", NULL, NULL, &err), *other;

	if (!slow || adwuma_handle_submitted(slow, MANY_MS, &err) || adwuma_handle_wait(slow, 300, &err) == 0)
		return failed("slow");
	other = adwuma_asynthesize(client, "x", "twi", NULL, NULL, &err);
	if (!other || adwuma_handle_wait(other, MANY_MS, &err))
		return failed("other");
	printf("first %s\n", adwuma_handle_result(slow) ? "slow" : "other");
	return adwuma_handle_wait(slow, MANY_MS, &err) ? failed("wait") : 0;
}

/* Cancelled before it began. */
static int cancel(void)
{
	adwuma_handle *h = adwuma_atranslate(client, "x", NULL, NULL, &err);

	if (!h || adwuma_handle_submitted(h, MANY_MS, &err) || adwuma_handle_cancel(h, &err))
		return failed("cancel");
	printf("cancelled\n");
	fflush(stdout);
	if (adwuma_handle_wait(h, MANY_MS, &err))
		return failed("wait");
	show(adwuma_handle_result(h));
	return 0;
}

/* N jobs go on while standard input is open; a line each for what became of them. Whoever calls kills Redis meanwhile. */
static int steady(void)
{
	size_t n = (size_t)atol(arg[0]);
	adwuma_handle **h = (adwuma_handle **)calloc(n, sizeof(adwuma_handle *));
	char text[64], line[16];

	for (size_t i = 0; i < n; i++) {
		snprintf(text, sizeof text, "number %zu", i);
		h[i] = adwuma_atranslate(client, text, NULL, NULL, &err);
		if (!h[i])
			return failed("hand");
		if (i == n / 4) {
			printf("quarter\n");
			fflush(stdout);
			if (!fgets(line, sizeof line, stdin))
				return 1;
		}
	}
	if (adwuma_gather(h, n, MANY_MS, &err))
		return failed("gather");
	for (size_t i = 0; i < n; i++) {
		snprintf(text, sizeof text, "[tw] number %zu", i);
		if (strcmp(text, adwuma_result_text(adwuma_handle_result(h[i]))) != 0)
			return failed("wrong");
	}
	printf("all %zu\n", n);
	free(h);
	return 0;
}

/* Nobody is there: what each call says, and how long it took. */
static int nobody(void)
{
	double began = now();
	adwuma_handle *h = adwuma_atranslate(client, "x", NULL, NULL, &err);
	char id[ADWUMA_ID_MAX + 1];

	if (!h)
		return failed("hand");
	/* At once, or when it is known. */
	if (adwuma_handle_wait(h, 0, &err) == 0)
		return failed("early");
	adwuma_handle_wait(h, MANY_MS, &err);
	failed("wait");
	printf("error %d result %d\n", adwuma_handle_error(h, &err), adwuma_handle_result(h) != NULL);
	adwuma_submit(client, "translate", "{}", 2, id, &err);
	failed("submit");
	printf("seconds %.2f\n", now() - began);
	return 0;
}

/* The host's own handling of SIGPIPE stays, and none comes: it would kill us. The caller closes connections meanwhile. */
static int pipes(void)
{
	char line[16];
	struct sigaction before, after;
	sigset_t mask;

	sigaction(SIGPIPE, NULL, &before);
	for (int i = 0; i < 5; i++) {
		adwuma_handle *h = adwuma_atranslate(client, "x", NULL, NULL, &err);
		char *json = NULL, id[ADWUMA_ID_MAX + 1], key[300];
		const char *job = "{\"type\":\"translate\",\"text\":\"y\"}";

		if (!h || adwuma_handle_wait(h, MANY_MS, &err) ||
		    adwuma_submit(client, NULL, job, strlen(job), id, &err) ||
		    adwuma_wait(client, "translate", id, MANY_MS, &json, &err) ||
		    adwuma_put_audio(client, "translate", "a", "bytes", 5, 60, key, sizeof key, &err))
			return failed("call");
		adwuma_free(json);
		printf("round\n");
		fflush(stdout);
		if (!fgets(line, sizeof line, stdin))
			return 1;
	}
	sigaction(SIGPIPE, NULL, &after);
	pthread_sigmask(SIG_SETMASK, NULL, &mask);
	printf("kept %d %d\n", before.sa_handler == after.sa_handler, sigismember(&mask, SIGPIPE));
	return 0;
}

/* FILE FILE: two jobs of one id with audio of their own, while nobody does them; then both are done. */
static int voices(void)
{
	struct adwuma_audio from = {0};
	struct adwuma_how how = {0};
	adwuma_handle *h[2];
	char line[16];

	how.id = "same";
	for (int i = 0; i < 2; i++) {
		from.path = arg[i];
		h[i] = adwuma_atranscribe(client, &from, NULL, NULL, &how, &err);
		if (!h[i] || adwuma_handle_submitted(h[i], MANY_MS, &err))
			return failed("atranscribe");
	}
	printf("there\n");
	fflush(stdout);
	if (!fgets(line, sizeof line, stdin) || adwuma_gather(h, 2, MANY_MS, &err))
		return failed("gather");
	show(adwuma_handle_result(h[0]));
	return 0;
}

/* A child of fork() closes what it inherited: nothing happens, also not to the parent. What a child starts inherits no connection. */
static int children(void)
{
	char command[200];
	adwuma_handle *h = adwuma_atranslate(client, "x", NULL, NULL, &err);
	pid_t child;
	int status = -1;

	if (!h || adwuma_handle_submitted(h, MANY_MS, &err))
		return failed("hand");
	child = fork();
	if (child == 0) {
		adwuma_close(client);
		_exit(0);
	}
	waitpid(child, &status, 0);
	printf("child %d\n", status);
	fflush(stdout);
	/* Then both connections are made: hiredis makes a socket first and marks it afterwards. */
	if (adwuma_handle_wait(h, MANY_MS, &err))
		return failed("wait");
	snprintf(command, sizeof command, "ls -l /proc/self/fd | grep -c socket: ");
	printf("inherits %d\n", system(command) == 0);
	show(adwuma_handle_result(h));
	return 0;
}

/* N handles that are forgotten without being told of, though the descriptor was asked for; memory at a tenth and at the end. */
static int husks(void)
{
	long n = atol(arg[0]), early = 0;
	struct pollfd p = {-1, POLLIN, 0};

	p.fd = adwuma_fd(client, &err);
	for (long i = 0; i < n; i++) {
		adwuma_handle *h = adwuma_atranslate(client, "x", NULL, NULL, &err);

		if (!h || adwuma_handle_wait(h, MANY_MS, &err))
			return failed("wait");
		adwuma_handle_free(h);
		if (i == n / 10)
			early = anon_kib();
	}
	printf("grew %ld\n", anon_kib() - early);
	while (adwuma_next_settled(client))
		;
	printf("left %d\n", poll(&p, 1, 0));
	return 0;
}

/* What waits says when Redis hangs, and how long it took. */
static int hangs(void)
{
	char *json = NULL, line[16];
	double began;

	if (adwuma_wait(client, "translate", "none", 0, &json, &err) == 0)
		return 1;
	printf("go\n");
	fflush(stdout);
	if (!fgets(line, sizeof line, stdin))
		return 1;
	began = now();
	adwuma_wait(client, "translate", "none", 0, &json, &err);
	printf("wait %.1f\n", now() - began);
	began = now();
	adwuma_submit(client, "translate", "{}", 2, (char[ADWUMA_ID_MAX + 1]){0}, &err);
	printf("submit %.1f\n", now() - began);
	fflush(stdout);
	return 0;
}

/* What is wrong with arguments is told at once. */
static int wrong(void)
{
	struct adwuma_how how = {0};
	adwuma_result *r;

	adwuma_atranslate(client, "x", NULL, (how.id = "a b", &how), &err);
	failed("id");
	how.id = NULL;
	adwuma_atranslate(client, "x", NULL, (how.queue = "Q", &how), &err);
	failed("queue");
	how.queue = NULL;
	adwuma_a_taskingai(client, "nothing", NULL, NULL, &err);
	failed("operation");
	adwuma_a_taskingai(client, "get_assistant", "[1]", NULL, &err);
	failed("params");
	adwuma_a_chat_completion(client, "m", "{}", NULL, NULL, &err);
	failed("messages");
	adwuma_translate(client, "x", NULL, (how.members = "{\"a\":1,", &how), &r, &err);
	failed("members");
	if (adwuma_result_parse("{}", 2, &err))
		return 1;
	failed("parse");
	/* Nothing is handed through from call to call: each says what is wrong, none dies of it. */
	adwuma_handle *none[1] = {adwuma_atranslate(NULL, "x", NULL, NULL, &err)};
	failed("client");
	if (adwuma_handle_wait(none[0], 0, &err) == 0 || adwuma_gather(none, 1, 0, NULL) == 0 ||
	    adwuma_handle_result(none[0]) || adwuma_succeeded(NULL) || adwuma_result_text(NULL) ||
	    adwuma_result_fault(NULL) || adwuma_result_value(NULL))
		return 1;
	failed("handle");
	adwuma_atranslate(client, "caf\xe9", NULL, NULL, &err);
	failed("utf8");
	if (adwuma_handle_error(NULL, &err) == 0 || *adwuma_handle_id(NULL) || adwuma_handle_data(NULL) ||
	    adwuma_handle_cancel(NULL, &err) == 0 || adwuma_result_json(NULL) ||
	    adwuma_submit(NULL, NULL, "{}", 2, (char[ADWUMA_ID_MAX + 1]){0}, &err) == 0 ||
	    adwuma_stream_next(NULL, 0, NULL, &err) >= 0 || adwuma_fd(NULL, &err) >= 0 || adwuma_next_settled(NULL) ||
	    adwuma_result_parse("{\"status\":\"succeeded\",\"result\":{}", 35, &err))
		return 1;
	const struct adwuma_options hasty = {.submit_timeout_ms = 500};
	adwuma *other = adwuma_open(&hasty, &err);
	adwuma_handle *mixed[2] = {adwuma_atranslate(client, "x", NULL, NULL, &err),
				   adwuma_atranslate(other, "x", NULL, NULL, &err)};
	if (adwuma_gather(mixed, 2, 0, &err) == 0)
		return 1;
	failed("clients");
	adwuma_handle_free(mixed[0]);
	adwuma_close(other);
	adwuma_handle_free(NULL);
	adwuma_close(NULL);
	return 0;
}

static const struct {
	const char *name;
	int (*run)(void);
} acts[] = {{"gather", gather}, {"submit", submit},   {"hand", hand},	  {"both", both},     {"first", first},
	    {"loop", loop},	{"threads", threads}, {"stream", stream}, {"chat", chat},     {"audio", audio},
	    {"twice", twice},	{"lanes", lanes},     {"cancel", cancel}, {"voices", voices}, {"children", children},
	    {"husks", husks},	{"hangs", hangs},     {"steady", steady}, {"nobody", nobody}, {"pipes", pipes},
	    {"wrong", wrong}};

int main(int argc, char **argv)
{
	struct adwuma_options options = {0};
	const char *ms = getenv("ADWUMA_SUBMIT_MS");
	int rc = 2;

	options.submit_timeout_ms = ms ? atol(ms) : 0;
	client = adwuma_open(&options, &err);
	if (!client)
		return failed("open");
	arg = argv + 2;
	arg_n = argc - 2;
	for (size_t i = 0; argc > 1 && i < sizeof acts / sizeof *acts; i++)
		if (strcmp(acts[i].name, argv[1]) == 0)
			rc = acts[i].run();
	adwuma_close(client);
	return rc;
}
