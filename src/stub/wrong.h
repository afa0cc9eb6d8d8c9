/* SPDX-License-Identifier: MIT
 *
 * Bodies of answers that are no success, and what else may be wrong with an answer. Bodies of the gateway are those of
 * Azure API Management; of the services those the official SDK's tests record. Pure. */
#ifndef ADWUMA_STUB_WRONG_H
#define ADWUMA_STUB_WRONG_H

#include "httpd/httpd.h"
#include "stub/directives.h"

/* The head of an answer that is JSON, right or wrong; its body is the caller's. */
void answer_json(struct httpd_answer *a, int status);
/* E1: a service refuses what was sent. */
void wrong_input(struct httpd_answer *a, const char *code, const char *target, const char *message);
/* E3 about a text that is too long. */
void wrong_length(struct httpd_answer *a, int status);
/* E2 */
void wrong_key(struct httpd_answer *a, const char *api, bool missing);
void wrong_path(struct httpd_answer *a);

/* What the directives ask for in place of the right answer, if they do. */
bool wrong_asked(const struct directives *d);
void wrong_send(struct httpd_answer *a, const struct directives *d, const char *api);
/* What they ask to be done to the answer, whichever it is: to its body, to its head, and in how it is sent. */
void wrong_finish(struct httpd_answer *a, const struct directives *d);
/* The same without the body. */
void wrong_head(struct httpd_answer *a, const struct directives *d);

#endif
