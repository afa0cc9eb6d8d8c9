/* SPDX-License-Identifier: MIT
 *
 * A settings file and flags as people may write them. Input: the file, then one flag after the other; 0xff between them. */
#include "fuzz.h"

#include <ctype.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/buf.h"
#include "settings/settings.h"
#include "worker/service.h"

#define FLAGS_MAX 8
#define SECRETS 6

static bool is_queue_name(const char *s)
{
	return *s && strlen(s) <= QUEUE_NAME_MAX && !strchr("_.-", *s) &&
	       strspn(s, "abcdefghijklmnopqrstuvwxyz0123456789_.-") == strlen(s);
}

static void check_queues(const struct settings *s)
{
	must(s->nqueues >= 1 && s->nqueues <= QUEUES_MAX);
	for (size_t i = 0; i < s->nqueues; i++) {
		const struct queue_settings *q = &s->queues[i];

		must(is_queue_name(q->name) && q->weight >= 1 && q->weight <= 1000);
		must(q->max_concurrency >= 0 && q->max_concurrency <= THREADS_MAX);
		must(q->timeout_ms >= 0 && q->timeout_ms <= 3600000);
		must(q->max_attempts >= 0 && q->max_attempts <= 100);
		for (size_t k = 0; k < i; k++)
			must(strcmp(q->name, s->queues[k].name) != 0);
	}
}

static void check_values(const struct settings *s)
{
	const char *const needed[] = {s->redis_url,	    s->admin_listen,	 s->key_prefix,
				      s->khaya_base_url,    s->taskingai_host,	 s->khaya_translation_version,
				      s->khaya_asr_version, s->khaya_tts_version};

	for (size_t i = 0; i < sizeof needed / sizeof *needed; i++)
		must(needed[i] && *needed[i]);
	must(s->threads >= 1 && s->threads <= THREADS_MAX);
	must(s->lease_ms >= 1000 && s->lease_ms <= 600000);
	must(s->dead_max_jobs >= 1 && s->dead_max_bytes >= 1024 && s->max_job_bytes >= 1024);
	must(s->max_job_bytes <= 512LL << 20 && s->max_audio_bytes <= 512LL << 20 &&
	     s->max_response_bytes <= 512LL << 20);
	must(s->result_ttl_s >= 1 && s->result_ttl_s <= 365 * 86400);
	must(s->max_attempts >= 1 && s->max_attempts <= 100 && s->max_crashes >= 1 && s->drain_timeout_s >= 0);
	must(s->khaya_timeout >= 0 && s->khaya_timeout <= 3600 && s->taskingai_timeout >= 0);
	must(s->log_level >= LOG_DEBUG && s->log_level <= LOG_ERROR);
	must(strlen(s->key_prefix) <= 64);
}

static char *print(const struct settings *s)
{
	char *text = NULL;
	size_t len = 0;
	FILE *to = open_memstream(&text, &len);

	must(to);
	settings_print(s, to);
	fclose(to);
	return text;
}

/* What is shown does not depend on what a secret is. */
static void check_secrets(struct settings *s)
{
	char **const secrets[SECRETS] = {&s->redis_password,	&s->khaya_api_key,     &s->khaya_translation_api_key,
					 &s->khaya_asr_api_key, &s->khaya_tts_api_key, &s->taskingai_api_key};
	char *shown = print(s), *again;

	for (int i = 0; i < SECRETS; i++) {
		if (!*secrets[i])
			continue;
		free(*secrets[i]);
		*secrets[i] = strdup("another");
	}
	again = print(s);
	must(strcmp(shown, again) == 0);
	free(shown);
	free(again);
}

/* It begins with the line of the file or with the flag. */
static void check_place(const struct error *err, const char *path)
{
	size_t n = strlen(path);

	must(err->code == ERR_CONFIG);
	if (strncmp(err->msg, path, n) == 0)
		must(err->msg[n] == ':' && isdigit((unsigned char)err->msg[n + 1]));
	else
		must(strncmp(err->msg, "--", 2) == 0);
	must(strstr(err->msg, ": "));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct span in = {(const char *)data, size};
	const char *end = size ? memchr(data, 0xff, size) : NULL;
	size_t len = end ? (size_t)(end - in.ptr) : size;
	char *file = next_text(&in), *flags[FLAGS_MAX] = {0}, *argv[FLAGS_MAX + 4], path[40], program[] = "adwumad",
	     config[] = "--config";
	int argc = 0, given, fd = memfd_create("settings", MFD_CLOEXEC);
	struct buf warnings = BUF_INIT(10000);
	struct error err = {0};
	struct settings s = {0};
	bool other_file = false;

	clearenv();
	must(fd >= 0 && write(fd, file, len) == (ssize_t)len);
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	argv[argc++] = program;
	argv[argc++] = config;
	argv[argc++] = path;
	for (int i = 0; i < FLAGS_MAX && in.len > 0; i++) {
		argv[argc++] = flags[i] = next_text(&in);
		other_file = other_file || strncmp(flags[i], "--config", 8) == 0;
	}
	argv[argc] = NULL;
	given = argc;
	if (settings_load(&s, &argc, argv, service_rules, &warnings, &err) == 0) {
		must(argc >= 1 && argc <= given - 2 && argv[0] == program && !argv[argc]);
		check_queues(&s);
		check_values(&s);
		check_secrets(&s);
	} else {
		must(!s.redis_url && s.nqueues == 0);
		if (!other_file)
			check_place(&err, path);
	}
	settings_release(&s);
	buf_release(&warnings);
	close(fd);
	free(file);
	for (int i = 0; i < FLAGS_MAX; i++)
		free(flags[i]);
	return 0;
}
