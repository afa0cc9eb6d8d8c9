/* SPDX-License-Identifier: MIT
 *
 * What the queue is measured against: N threads that make the same translate call with curl_easy_perform in a loop, handle, connection and
 * headers reused, and no queue at all.
 *
 *   bare URL THREADS CALLS
 *
 * Prints one JSON line: calls, seconds, calls per second, CPU microseconds per call, peak resident KiB. */
#include <curl/curl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

static const char *url;
static atomic_long left;
static atomic_long failed;

static size_t swallow(char *data, size_t size, size_t n, void *ctx)
{
	size_t *bytes = ctx;

	(void)data;
	*bytes += size * n;
	return size * n;
}

static void *run(void *arg)
{
	static const char *const lines[] = {"Content-Type: application/json", "Ocp-Apim-Subscription-Key: bench",
					    "Cache-Control: no-cache", "Expect:"};
	struct curl_slist *headers = NULL;
	CURL *e = curl_easy_init();
	char body[256];
	size_t bytes = 0;
	long i;

	(void)arg;
	for (size_t k = 0; k < sizeof lines / sizeof *lines; k++)
		headers = curl_slist_append(headers, lines[k]);
	curl_easy_setopt(e, CURLOPT_URL, url);
	curl_easy_setopt(e, CURLOPT_HTTPHEADER, headers);
	curl_easy_setopt(e, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(e, CURLOPT_TIMEOUT_MS, 30000L);
	curl_easy_setopt(e, CURLOPT_WRITEFUNCTION, swallow);
	curl_easy_setopt(e, CURLOPT_WRITEDATA, &bytes);
	while ((i = atomic_fetch_sub(&left, 1)) > 0) {
		long status = 0;
		int n = snprintf(body, sizeof body, "{\"in\":\"Good morning, number %ld\",\"lang\":\"en-tw\"}", i);

		curl_easy_setopt(e, CURLOPT_POSTFIELDS, body);
		curl_easy_setopt(e, CURLOPT_POSTFIELDSIZE, (long)n);
		if (curl_easy_perform(e) != CURLE_OK ||
		    curl_easy_getinfo(e, CURLINFO_RESPONSE_CODE, &status) != CURLE_OK || status != 200)
			atomic_fetch_add(&failed, 1);
	}
	curl_easy_cleanup(e);
	curl_slist_free_all(headers);
	return NULL;
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
	long threads = argc == 4 ? atol(argv[2]) : 0, calls = argc == 4 ? atol(argv[3]) : 0;
	pthread_t *crew;
	struct rusage use;
	double began, took;

	if (threads < 1 || calls < 1) {
		fprintf(stderr, "usage: bare URL THREADS CALLS\n");
		return 2;
	}
	url = argv[1];
	left = calls;
	curl_global_init(CURL_GLOBAL_DEFAULT);
	crew = calloc((size_t)threads, sizeof *crew);
	began = now();
	for (long i = 0; crew && i < threads; i++)
		if (pthread_create(&crew[i], NULL, run, NULL))
			return 1;
	for (long i = 0; crew && i < threads; i++)
		pthread_join(crew[i], NULL);
	took = now() - began;
	free(crew);
	getrusage(RUSAGE_SELF, &use);
	printf("{\"calls\":%ld,\"failed\":%ld,\"seconds\":%.4f,\"rate\":%.1f,\"cpu_us\":%.2f,\"rss_kib\":%ld}\n", calls,
	       atomic_load(&failed), took, (double)calls / took,
	       (seconds(use.ru_utime) + seconds(use.ru_stime)) * 1e6 / (double)calls, use.ru_maxrss);
	curl_global_cleanup();
	return atomic_load(&failed) ? 1 : 0;
}
