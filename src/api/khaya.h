/* SPDX-License-Identifier: MIT
 *
 * The Khaya AI adapter. Between the files of api/ only. */
#ifndef ADWUMA_API_KHAYA_H
#define ADWUMA_API_KHAYA_H

#include "api/api.h"

#define KHAYA_KINDS JOB_TASKINGAI /* the kinds of jobs before it */

struct khaya;

struct khaya *khaya_new(const struct settings *settings, struct error *err);
void khaya_free(struct khaya *k);
int khaya_build(const struct khaya *k, struct job *job, struct call *call, struct outcome *out);
void khaya_read(const struct khaya *k, struct job *job, const struct http_response *resp, struct outcome *out);
int khaya_build_piece(const struct khaya *k, struct job *job, struct call *call, size_t i, struct outcome *out);
void khaya_piece_name(const struct khaya *k, struct job *job, struct call *call, char out[SHA1_HEX_LEN + 1]);
int khaya_take_piece(struct job *job, struct outcome *out, struct buf *piece);
bool khaya_is_piece(const struct job *job, const struct buf *piece);
void khaya_join(struct job *job, const struct call *call, const struct buf *pieces, struct outcome *out);
/* The name of the version that the settings choose. */
const char *khaya_version(const struct settings *s, enum job_kind kind);
/* A path of that service, with its key. Returns owned; NULL with ERR_CONFIG when there is no key or the URL cannot be used. */
struct http_target *khaya_target(const struct settings *s, enum job_kind kind, const char *path, struct error *err);
/* The JSON of an answer of success. Returns owned; NULL when the answer is an error, is no JSON, or tells of an error: out then says so. */
struct json *khaya_read_json(const struct http_response *resp, struct outcome *out);
/* Sets out failed: it was JSON, but not what was expected. */
void khaya_unexpected_json(const struct http_response *resp, struct outcome *out);
const char *khaya_input_error(enum job_kind kind); /* the class of a local check of that service */

#endif
