/* SPDX-License-Identifier: MIT
 *
 * The Khaya API as the stub plays it: routes, checks in the real order, bodies. Runs on the server's thread. */
#ifndef ADWUMA_STUB_KHAYA_H
#define ADWUMA_STUB_KHAYA_H

#include "stub/stub.h"

void khaya_answer(struct stub *s, const struct httpd_request *r, struct httpd_answer *a);

#endif
