/* SPDX-License-Identifier: MIT
 *
 * The TaskingAI API as the stub plays it: the community edition's routes, checks in its order, an in-memory store,
 * event streams. Runs on the server's thread.
 *
 *   taskingai.c         routes; from request to answer; the record
 *   tasking_objects.c   what can be created, listed, changed and deleted
 *   tasking_records.c   texts that are cut into chunks, and found by queries
 *   tasking_files.c     uploads
 *   tasking_actions.c   actions out of OpenAPI documents
 *   tasking_infer.c     embedding and rerank
 *   tasking_chat.c      chat completion and generation
 *   tasking_stream.c    the bytes of an event stream, right or wrong, and their pace
 *   schema.c store.c form.c   what they stand on
 */
#ifndef ADWUMA_STUB_TASKINGAI_H
#define ADWUMA_STUB_TASKINGAI_H

#include "stub/stub.h"

bool taskingai_plays(const char *path); /* whether the path is TaskingAI's */
void taskingai_answer(struct stub *s, const struct httpd_request *r, struct httpd_answer *a);

#endif
