/* SPDX-License-Identifier: MIT
 *
 * doctor: what its checks share. A check looks at one thing and tells what it found, in one line or several; what is not well is followed by
 * what mends it: a line for the shell, with what else there is to say behind a #. Nothing that a check does stays in Redis. */
#ifndef ADWUMA_CLI_DOCTOR_H
#define ADWUMA_CLI_DOCTOR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buf.h"
#include "cli/cli.h"
#include "cli/look.h"
#include "http/http.h"
#include "queue/keys.h"

#define DOCTOR_TEXT_MAX 2048 /* a line of what was found, or what mends it */

enum doctor_state {
	FOUND_OK,
	FOUND_WARN, /* it works, but may not for long, or not as somebody thinks */
	FOUND_BAD,
	DOCTOR_STATES
};

struct doctor {
	const struct cli *cli;
	const struct settings *settings;
	struct look look;		 /* redis NULL: not connected */
	char redis_cli[DOCTOR_TEXT_MAX]; /* the command that asks the same Redis, without a password */
	size_t redis_cli_place;		 /* of it: without the user */
	struct reply *info_reply;
	const char *info;	     /* what INFO said, in info_reply; NULL: nothing */
	bool replica;		     /* it takes no writes */
	bool unreadable[QUEUES_MAX]; /* queues of look that have a key of a wrong type, which was told */
	struct buf idle;	     /* names of queues without workers and jobs */
	struct http_shared *shared;
	struct http *http; /* NULL: the API cannot be asked */
	bool khaya_away;   /* no answer came from there */
	bool unreachable;  /* Redis, or an API */
	const char *check; /* that is being made */
	size_t counts[DOCTOR_STATES];
	int width;	 /* of the names of checks */
	struct buf json; /* max 0: for people */
	bool open;	 /* the last object in json lacks its mend */
};

void found(struct doctor *d, enum doctor_state state, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* What mends what was found last. */
void mend(struct doctor *d, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* The same of a setting of Redis's own: now, and for good. */
void mend_config(struct doctor *d, const char *name, const char *value);
/* Tells that a command was refused, or the connection lost; then it is made anew, for what comes after. what: before the reason, or NULL. */
void found_failed(struct doctor *d, const char *what, struct error *err);
/* As a word for the shell, in quotes where it needs them. Returns out. */
const char *shell_word(const char *word, char out[DOCTOR_TEXT_MAX]);

/* The connection, into d->look. */
int doctor_connect(struct doctor *d, struct error *err);

/* doctor_host.c: settings, files, this machine. */
void doctor_settings(struct doctor *d);
void doctor_secret_files(struct doctor *d);
void doctor_open_files(struct doctor *d);
/* doctor_redis.c: the server. */
void doctor_redis(struct doctor *d);
void doctor_version(struct doctor *d);
void doctor_role(struct doctor *d);
void doctor_persistence(struct doctor *d);
void doctor_eviction(struct doctor *d);
void doctor_memory(struct doctor *d);
void doctor_clients(struct doctor *d);
void doctor_replicas(struct doctor *d);
void doctor_latency(struct doctor *d);
void doctor_clock(struct doctor *d);
/* doctor_rights.c: what its ACL lets us do. */
void doctor_rights(struct doctor *d);
/* doctor_queues.c: what is in it. */
void doctor_types(struct doctor *d);
void doctor_writes(struct doctor *d);
void doctor_pauses(struct doctor *d);
void doctor_workers(struct doctor *d);
void doctor_leases(struct doctor *d);
void doctor_dead(struct doctor *d);
/* doctor_api.c: the services, by calls that cost nothing. */
void doctor_urls(struct doctor *d);
void doctor_certificates(struct doctor *d);
void doctor_translate(struct doctor *d);
void doctor_transcribe(struct doctor *d);
void doctor_synthesize(struct doctor *d);
void doctor_taskingai(struct doctor *d);
void doctor_close_api(struct doctor *d);

#endif
