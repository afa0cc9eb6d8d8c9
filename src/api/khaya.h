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
int khaya_build_piece(const struct khaya *k, struct job *job, struct call *call, size_t i, struct outcome *out);
void khaya_piece_name(const struct khaya *k, struct job *job, struct call *call, char out[SHA1_HEX_LEN + 1]);
int khaya_take_piece(struct job *job, struct outcome *out, struct buf *piece);
void khaya_join(struct job *job, const struct call *call, const struct buf *pieces, struct outcome *out);
const char *khaya_input_error(enum job_kind kind); /* the class of a local check of that service */

#endif
