/* SPDX-License-Identifier: MIT
 *
 * What the queue is measured against: N threads that make the same translate call with curl_easy_perform in a loop, handle, connection and
 * headers reused, and no queue at all. With --tuned everything is done to curl that the worker does to it (src/http/http.c), too: a multi handle
 * that performs first and waits only then, a URL that is parsed once, no look for proxies.
 *
 *   bare [--tuned] [--ca FILE] URL THREADS CALLS
 *
 * Prints one JSON line: calls, seconds, calls per second, CPU microseconds per call, peak resident KiB. */
#include <curl/curl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

static const char *url, *ca_file;
static CURLU *parsed; /* of --tuned, else NULL */
static atomic_long left;
static atomic_long failed;

static size_t swallow(char *data, size_t size, size_t n, void *ctx)
{
	size_t *bytes = ctx;

	(void)data;
	*bytes += size * n;
	return size * n;
}

static void tune(CURL *e)
{
	curl_easy_setopt(e, CURLOPT_URL, NULL);
	curl_easy_setopt(e, CURLOPT_CURLU, parsed);
	curl_easy_setopt(e, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	curl_easy_setopt(e, CURLOPT_BUFFERSIZE, 4096L);
	curl_easy_setopt(e, CURLOPT_PROXY, ""); /* the bench has none */
	curl_easy_setopt(e, CURLOPT_NOPROXY, "");
}

/* Performs first, and polls only then. */
static CURLcode drive(CURLM *m, CURL *e)
{
	int running = 1, messages;
	const CURLMsg *msg;
	CURLcode code = CURLE_OUT_OF_MEMORY;

	if (curl_multi_add_handle(m, e) != CURLM_OK)
		return code;
	while (running && curl_multi_perform(m, &running) == CURLM_OK)
		if (running)
			curl_multi_poll(m, NULL, 0, 1000, NULL);
	while ((msg = curl_multi_info_read(m, &messages)))
		if (msg->msg == CURLMSG_DONE)
			code = msg->data.result;
	curl_multi_remove_handle(m, e);
	return code;
}

static void *run(void *arg)
{
	static const char *const lines[] = {"Content-Type: application/json", "Ocp-Apim-Subscription-Key: bench",
					    "Cache-Control: no-cache", "Expect:"};
	struct curl_slist *headers = NULL;
	CURL *e = curl_easy_init();
	CURLM *m = parsed ? curl_multi_init() : NULL;
	char body[256];
	size_t bytes = 0;
	long i;

	(void)arg;
	for (size_t k = 0; k < sizeof lines / sizeof *lines; k++)
		headers = curl_slist_append(headers, lines[k]);
	curl_easy_setopt(e, CURLOPT_URL, url);
	curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(e, CURLOPT_TIMEOUT_MS, 30000L);
	curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, swallow);
	curl_easy_setopt(e, CURLOPT_WRITEDATA, &bytes);
	if (ca_file)
		curl_easy_setopt(e, CURLOPT_CAINFO, ca_file);
	if (m)
		tune(e);
	curl_easy_setopt(e, CURLOPT_HTTPHEADER, headers);
	while ((i = atomic_fetch_sub(&left, 1)) > 0) {
		long status = 0;
		int n = snprintf(body, sizeof body, "{\"in\":\"Good morning, number %ld\",\"lang\":\"en-tw\"}", i);

		curl_easy_setopt(e, CURLOPT_POSTFIELDS, body);
		curl_easy_setopt(e, CURLOPT_POSTFIELDSIZE, (long)n);
		if ((m ? drive(m, e) : curl_easy_perform(e)) != CURLE_OK ||
		    curl_easy_getinfo(e, CURLINFO_RESPONSE_CODE, &status) != CURLE_OK || status != 200)
			atomic_fetch_add(&failed, 1);
	}
	curl_easy_cleanup(e);
	curl_multi_cleanup(m);
	curl_slist_free_all(headers);
	return NULL;
}

/* Not ru_maxrss, which is at least what the process that started us had. */
static long peak_kib(void)
{
	FILE *f = fopen("/proc/self/status", "r");
	char line[256];
	long kib = 0;

	while (f && fgets(line, sizeof line, f))
		if (strncmp(line, "VmHWM:", 6) == 0)
			kib = atol(line + 6);
	if (f)
		fclose(f);
	return kib;
}

static double seconds(struct timeval t)
{
	return (double)t.tv_sec + (double)t.tv_usec / 1e6;
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

int main(int argc, char **argv)
{
	bool tuned = false;
	long threads, calls;
	pthread_t *crew;
	struct rusage use;
	double began, took;

	argv++;
	if (*argv && strcmp(*argv, "--tuned") == 0) {
		tuned = true;
		argv++;
	}
	if (argc > 2 && *argv && strcmp(*argv, "--ca") == 0) {
		ca_file = argv[1];
		argv += 2;
	}
	for (argc = 0; argv[argc];)
		argc++;
	threads = argc == 3 ? atol(argv[1]) : 0;
	calls = argc == 3 ? atol(argv[2]) : 0;
	if (threads < 1 || calls < 1) {
		fprintf(stderr, "usage: bare [--tuned] [--ca FILE] URL THREADS CALLS\n");
		return 2;
	}
	url = argv[0];
	left = calls;
	curl_global_init(CURL_GLOBAL_DEFAULT);
	parsed = tuned ? curl_url() : NULL;
	crew = calloc((size_t)threads, sizeof *crew);
	if (!crew || (tuned && curl_url_set(parsed, CURLUPART_URL, url, 0) != CURLUE_OK))
		return 1;
	began = now();
	for (long i = 0; i < threads; i++)
		if (pthread_create(&crew[i], NULL, run, NULL))
			return 1;
	for (long i = 0; i < threads; i++)
		pthread_join(crew[i], NULL);
	took = now() - began;
	free(crew);
	getrusage(RUSAGE_SELF, &use);
	printf("{\"calls\":%ld,\"failed\":%ld,\"seconds\":%.4f,\"rate\":%.1f,\"cpu_us\":%.2f,\"rss_kib\":%ld}\n", calls,
	       atomic_load(&failed), took, (double)calls / took,
	       (seconds(use.ru_utime) + seconds(use.ru_stime)) * 1e6 / (double)calls, peak_kib());
	curl_url_cleanup(parsed);
	curl_global_cleanup();
	return atomic_load(&failed) ? 1 : 0;
}
