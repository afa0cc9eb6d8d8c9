/* SPDX-License-Identifier: MIT
 *
 * Every setting of Adwuma is one row of one table (settings.c): name, kind, bounds, default, secret or not, one sentence of help.
 * The table feeds the flags, the environment, the file, --help, --check and the README. Flags beat environment, environment beats
 * the file, the file beats the default.
 *
 * Ownership: struct settings owns its strings. main fills it before any thread starts; from then on it is read-only and
 * read without a lock. */
#ifndef ADWUMA_SETTINGS_SETTINGS_H
#define ADWUMA_SETTINGS_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/err.h"
#include "base/log.h"

#define QUEUE_NAME_MAX 64 /* contract section 2 */
#define QUEUES_MAX 64	  /* one I/O thread and two connections each */
#define THREADS_MAX 4096
#define SECRETS_MAX 32 /* each from the file and from the environment */

struct queue_settings {
	char name[QUEUE_NAME_MAX + 1];
	int64_t weight;		 /* 1-1000 */
	int64_t max_concurrency; /* 0: no limit of its own */
	int64_t timeout_ms;	 /* 0: unset */
	int64_t max_attempts;	 /* 0: unset */
};

/* A secret that was read: a later one of the same setting stands above it. */
struct secret {
	const char *setting;
	char *file;	/* it stands in; NULL: in the variable */
	char *variable; /* that holds it or names the file; NULL: it is the settings file that does */
};

struct settings {
	char *redis_url, *redis_username, *redis_password;
	char *redis_ca_file, *redis_cert_file, *redis_key_file;
	struct queue_settings queues[QUEUES_MAX];
	size_t nqueues;
	int64_t threads;
	int64_t lease_ms;
	int64_t dead_max_jobs, dead_max_bytes;
	int64_t result_ttl_s;
	int64_t max_attempts, max_crashes;
	int64_t drain_timeout_s;
	int64_t max_job_bytes, max_audio_bytes, max_response_bytes;
	char *audio_root;      /* NULL: unset; else an existing directory */
	char *audio_url_allow; /* NULL: unset; else a list as http/allow.h reads it */
	char *admin_listen;
	bool admin_listen_set; /* someone chose it: then an address in use is an error */
	enum log_level log_level;
	enum log_format log_format;
	char *key_prefix;
	char *khaya_api_key, *khaya_translation_api_key, *khaya_asr_api_key, *khaya_tts_api_key;
	char *khaya_base_url;	      /* without trailing slashes */
	int64_t khaya_timeout;	      /* seconds; 0: unset */
	int64_t khaya_retry_attempts; /* 0: unset */
	char *khaya_translation_version, *khaya_asr_version, *khaya_tts_version;
	int64_t khaya_tts_max_chars;
	char *taskingai_api_key, *taskingai_host; /* the host without trailing slashes */
	int64_t taskingai_timeout;		  /* seconds; 0: unset */
	char *api_ca_file;			  /* NULL: the system's bundle */
	bool allow_http_loopback;
	char *allow_http_hosts; /* NULL: none; else names separated by commas */
	char *file;		/* the settings file that was read; NULL: none */
	struct secret
		secrets[SECRETS_MAX]; /* for those who look at who else may read them, or tell what is to be changed */
	size_t nsecrets;
};

/* A check of a text setting's final value, where it is set, that only a layer above can make. err gets the reason alone, without name and
 * place, and never a secret. */
struct settings_rule {
	const char *name;
	int (*check)(const struct settings *s, const char *value, struct error *err);
};

/* Reads file, environment and flags. rules: ended by a row without name; NULL is fine. Recognised setting flags (--name VALUE, --name=VALUE, --config FILE) are taken out of argv;
 * everything else stays, in order, for the caller (argv[0] too; everything after "--" stays). *argc is updated. A password in the URL
 * of a flag is overwritten in argv.
 * On failure: ERR_CONFIG with place and reason ("/etc/…/adwumad.conf:12: threads: …", "environment ADWUMA_THREADS: …", "--threads: …").
 * Warnings (an ADWUMA_ variable that is no setting) are appended to *warnings, one per line, NULL is fine; returned owned in it (buf). */
struct buf;
int settings_load(struct settings *out, int *argc, char **argv, const struct settings_rule *rules, struct buf *warnings,
		  struct error *err);
void settings_release(struct settings *s); /* secrets are wiped before they are freed */

/* A comment that tells which file was read, then "name = value" lines with sections for queues; secrets as ***, also the password within a URL. */
void settings_print(const struct settings *s, FILE *to);
/* One block per setting: flag, environment name, default, sentence. */
void settings_help(FILE *to);
/* Where the value of a secret setting stands; NULL when it has none. */
const struct secret *settings_secret(const struct settings *s, const char *setting);
/* Whether a setting makes an exception for this host (n bytes, an IPv6 address in brackets): plain http will do. */
bool settings_takes_http(const struct settings *s, const char *host, size_t n);
/* The key that a Khaya service uses: its own, else the common one; NULL when there is none. */
const char *settings_khaya_key(const struct settings *s, const char *own);

#endif
