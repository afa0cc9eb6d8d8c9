/* SPDX-License-Identifier: MIT
 *
 * What is shared by the files of the Khaya adapter: khaya.c (requests), khaya_read.c (answers), khaya_join.c (pieces of a long text), and by nobody
 * else. */
#ifndef ADWUMA_API_KHAYA_PARTS_H
#define ADWUMA_API_KHAYA_PARTS_H

#include "api/khaya.h"

/* The members of a translation's result behind its text, and the closing brace. */
void khaya_add_pair(struct buf *out, struct job *job);
/* A synthesis' result; out->audio and its type are there. */
void khaya_say_speech(struct job *job, struct outcome *out);

#endif
