/* SPDX-License-Identifier: MIT
 *
 * The languages of the Khaya API: who offers which, under what names, and how they used to be spelled. Pure data. */
#ifndef ADWUMA_STUB_LANGUAGES_H
#define ADWUMA_STUB_LANGUAGES_H

#include <stddef.h>

enum service { TRANSLATION, ASR, TTS, SERVICES };

enum spelling {
	SPELLING_NOW,
	SPELLING_LEGACY, /* older; whether it is taken depends on the deployment */
	SPELLING_WRONG,	 /* of some older document; never taken */
};

struct language {
	const char *code;
	const char *legacy[SERVICES], *wrong; /* NULL: no such spelling */
	const char *name[SERVICES];	      /* NULL: the service does not offer it */
};

/* What a service means by a code, and how that is spelled; NULL when nothing. */
const struct language *language_find(enum service service, const char *code, size_t n, enum spelling *spelling);
/* Walks those that a service offers; NULL begins, and ends. */
const struct language *language_next(enum service service, const struct language *l);

#endif
