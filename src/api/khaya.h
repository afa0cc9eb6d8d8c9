/* SPDX-License-Identifier: MIT
 *
 * The Khaya AI adapter. Between the files of api/ only. */
#ifndef ADWUMA_API_KHAYA_H
#define ADWUMA_API_KHAYA_H

#include "api/api.h"

struct khaya;

struct khaya *khaya_new(const struct settings *settings, struct error *err);
void khaya_free(struct khaya *k);
int khaya_build(const struct khaya *k, struct job *job, struct call *call, struct outcome *out);
void khaya_read(const struct khaya *k, struct job *job, const struct http_response *resp, struct outcome *out);
const char *khaya_input_error(enum job_kind kind); /* the class of a local check of that service */

#endif
