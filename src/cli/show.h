/* SPDX-License-Identifier: MIT
 *
 * A result (contract section 4) as people and scripts read it. */
#ifndef ADWUMA_CLI_SHOW_H
#define ADWUMA_CLI_SHOW_H

#include <stdbool.h>

#include "base/json.h"

enum show_form {
	SHOW_TEXT,    /* the text, or the name of the audio key; of other types the value of "result" */
	SHOW_RESULT,  /* the value of "result" */
	SHOW_WHOLE,   /* the whole object */
	SHOW_NOTHING, /* only failures */
};

/* The members of a result that we look at; spans of its text. */
struct result {
	struct span whole, id, status, result, error;
};

/* json is borrowed. Returns 0, or -1 when it has not the form of a result. */
int result_read(struct result *r, const char *json);
bool result_succeeded(const struct result *r);

#define AUDIO_FACT_MAX 512
struct audio_facts {
	char key[AUDIO_FACT_MAX + 1];
	char sha256[AUDIO_FACT_MAX + 1]; /* "" when not told */
};
/* Of a synthesize job whose audio is in a key. Returns 0, or -1 when the result names none. */
int result_audio(const struct result *r, struct audio_facts *out);

/* Tells an error object (contract section 4): "job 42 failed: AuthenticationError (401): message", and what else is known. what: "job 42". */
void say_fault(const char *what, struct span error);

/* Prints it: exactly one line where one_line, in which a failed job has an empty line and a text's line breaks are
 * escaped. A failure is told on standard error, too. id: as the caller knows it. Returns the exit code. */
int result_show(const char *id, const char *json, enum show_form form, bool one_line);

#endif
