/* SPDX-License-Identifier: MIT
 *
 * Which directives a call is to be answered by: those in its text or language, in its header X-Stub, or those asked for
 * every call. Runs on the server's thread. */
#ifndef ADWUMA_STUB_WISHES_H
#define ADWUMA_STUB_WISHES_H

#include "stub/stub.h"

/* Of every call from now on. False with *bad set to the part of list that is not understood, and nothing changed. */
bool wishes_everywhere(struct stub *s, const char *list, size_t len, const char **bad);
/* *d: those whose conditions hold (borrowed from what they stand in); all zero: none. Returns what is not understood in the header, or NULL. */
const char *wishes_read(struct stub *s, const struct httpd_request *r, const char *text, const char *language,
			struct directives *d);
/* Those in a text that the call is about without saying it; *d stays where it has none. */
void wishes_in(struct stub *s, const struct httpd_request *r, const char *text, struct directives *d);
void wishes_refuse(struct httpd_answer *a, const char *bad);

#endif
