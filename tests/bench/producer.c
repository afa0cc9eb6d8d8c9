/* SPDX-License-Identifier: MIT
 *
 * Row 13: a producer over the library. `producer gather N` gathers N translations through one client, `producer submit N` submits N jobs. Prints one
 * line of JSON. Every answer is compared. */
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "adwuma.h"

#define WAIT_MS 120000
#define TEXT_BYTES 80

static struct adwuma_error err;

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static long anonymous_kib(void)
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
	fprintf(stderr, "%s: %s\n", what, err.message);
	return 1;
}

static int gather(adwuma *client, size_t n)
{
	adwuma_handle **jobs = malloc(n * sizeof(adwuma_handle *));
	char text[TEXT_BYTES], want[TEXT_BYTES];
	size_t results = 0;
	double began, took;
	long before;

	if (!jobs)
		return 1;
	memset(jobs, 1, n * sizeof(adwuma_handle *)); /* the program's own, before memory is looked at */
	before = anonymous_kib();
	began = now();
	for (size_t i = 0; i < n; i++) {
		snprintf(text, sizeof text, "Good morning, number %zu", i);
		jobs[i] = adwuma_atranslate(client, text, "en-tw", NULL, &err);
		if (!jobs[i])
			return failed("hand");
	}
	if (adwuma_gather(jobs, n, WAIT_MS, &err))
		return failed("gather");
	took = now() - began;
	for (size_t i = 0; i < n; i++)
		results += malloc_usable_size((void *)(uintptr_t)adwuma_result_json(adwuma_handle_result(jobs[i]))) +
			   sizeof(size_t);
	before = anonymous_kib() - before - (long)(results / 1024);
	for (size_t i = 0; i < n; i++) {
		const char *got = adwuma_result_text(adwuma_handle_result(jobs[i]));

		snprintf(want, sizeof want, "[tw] Good morning, number %zu", i);
		if (!got || strcmp(got, want) != 0)
			return failed(want);
	}
	printf("{\"seconds\":%.4f,\"kib\":%ld}\n", took, before);
	free(jobs);
	return 0;
}

static int submit(adwuma *client, size_t n)
{
	struct adwuma_job *jobs = calloc(n, sizeof *jobs);
	char(*texts)[TEXT_BYTES] = calloc(n, TEXT_BYTES);
	double began;

	if (!jobs || !texts)
		return 1;
	for (size_t i = 0; i < n; i++) {
		jobs[i].len =
			(size_t)snprintf(texts[i], TEXT_BYTES, "{\"type\":\"translate\",\"text\":\"number %zu\"}", i);
		jobs[i].json = texts[i];
	}
	began = now();
	if (adwuma_submit_many(client, jobs, n, &err))
		return failed("submit");
	printf("{\"seconds\":%.4f}\n", now() - began);
	free(texts);
	free(jobs);
	return 0;
}

int main(int argc, char **argv)
{
	adwuma *client = adwuma_open(NULL, &err);
	size_t n = argc == 3 ? strtoul(argv[2], NULL, 10) : 0;
	int rc;

	if (!client || n == 0)
		return failed("usage: producer gather|submit N");
	rc = strcmp(argv[1], "gather") == 0 ? gather(client, n) : submit(client, n);
	adwuma_close(client);
	return rc;
}
