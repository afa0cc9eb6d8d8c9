/* SPDX-License-Identifier: MIT
 *
 * The TaskingAI adapter. Between the files of api/ only. */
#ifndef ADWUMA_API_TASKINGAI_H
#define ADWUMA_API_TASKINGAI_H

#include "api/api.h"

struct taskingai;

/* taskingai.c: what goes out. */
struct taskingai *taskingai_new(const struct settings *settings, struct error *err);
void taskingai_free(struct taskingai *t);
int taskingai_build(const struct taskingai *t, struct job *job, struct call *call, struct outcome *out);

/* taskingai_read.c: what comes back. */
void taskingai_read(struct job *job, struct call *call, const struct http_response *resp, struct outcome *out);

#endif
