/* SPDX-License-Identifier: MIT
 *
 * A transfer of whatever easy handle within a struct http, so that http_abort() ends it as it ends a call. Between the files of http/ only. */
#ifndef ADWUMA_HTTP_DRIVE_H
#define ADWUMA_HTTP_DRIVE_H

#include <curl/curl.h>

struct http;

/* Runs easy to its end. CURLE_ABORTED_BY_CALLBACK: also after http_abort(). Blocks; the thread that h belongs to. */
CURLcode drive(struct http *h, CURL *easy);
/* For CURLOPT_SSL_CTX_FUNCTION, with h as its data: the CA store that all share. */
CURLcode drive_ssl_ctx(CURL *easy, void *ssl_ctx, void *user);

#endif
