/* SPDX-License-Identifier: MIT
 *
 * Synthesized audio on its way out: into the result itself (output base64), or into a file under audio_root (output path). What goes into
 * Redis is staged by audio_stage().
 *
 * A file's folder is opened, and whatever can be known to be wrong is said, before the call is paid for. The file is written under another name,
 * synced, and only then renamed: readers see the old one or the whole new one. A worker that is killed within those moments leaves a hidden file
 * .adwuma-HEX behind.
 *
 * Ownership: one thread; from deliver_open to deliver_close a folder is held open. */
#ifndef ADWUMA_EXEC_DELIVER_H
#define ADWUMA_EXEC_DELIVER_H

#include "job/job.h"
#include "job/outcome.h"
#include "settings/settings.h"

struct deliver {
	const struct settings *settings; /* borrowed */
	int folder;			 /* -1: none */
	const char *path, *name;	 /* the job's output_path, and its last part; borrowed from the job */
};
void deliver_init(struct deliver *d, const struct settings *settings);

/* Before the call, for a synthesize job. 0; or -1: the file cannot be made, out is failed with TTSGenerationError. Nothing to do for other outputs. */
int deliver_open(struct deliver *d, struct job *job, struct outcome *out);
/* out->audio, after the call: to where deliver_open prepared, else into the result. Adds to out->result; or makes out failed. */
void deliver(struct deliver *d, struct outcome *out);
void deliver_close(struct deliver *d); /* also where nothing is open */

/* Adds a string member to the object out->result. */
void deliver_note(struct outcome *out, const char *name, const char *value, size_t len);

#endif
