/* SPDX-License-Identifier: MIT
 *
 * What the services of Khaya AI say they offer: languages, and the voices of synthesis. Pure: only http/ touches the network. */
#ifndef ADWUMA_API_CATALOGUE_H
#define ADWUMA_API_CATALOGUE_H

#include <stddef.h>

#include "base/json.h"
#include "http/http.h"
#include "job/outcome.h"
#include "settings/settings.h"

enum catalogue_kind { CATALOGUE_TRANSLATE, CATALOGUE_ASR, CATALOGUE_TTS, CATALOGUE_SPEAKERS, CATALOGUES };

/* A language and its name ("" where it has none); or a speaker and the name of the group that it stands in. */
struct catalogue_entry {
	const char *code, *name; /* borrowed from the catalogue */
};

struct catalogue {
	struct catalogue_entry *entries; /* languages by code; speakers by group, then by name */
	size_t n;
	struct json *body; /* holds the texts */
};

/* Where that catalogue is GOT from, with the key of its service. Returns owned; NULL with ERR_CONFIG when there is no key, or when the base
 * URL cannot be used. */
struct http_target *catalogue_target(enum catalogue_kind kind, const struct settings *s, struct error *err);
/* Judges the answer. *out (initialised, empty) says OUTCOME_SUCCEEDED, and then *c owns what catalogue_release() frees; or, as with the
 * answer to a job, OUTCOME_RETRY or OUTCOME_FAILED and why. */
void catalogue_read(enum catalogue_kind kind, const struct settings *s, const struct http_response *resp,
		    struct catalogue *c, struct outcome *out);
void catalogue_release(struct catalogue *c); /* also of one all zero */

#endif
