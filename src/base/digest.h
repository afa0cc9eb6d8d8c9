/* SPDX-License-Identifier: MIT
 *
 * Hashes, base64 and random names, by libcrypto. Pure; any thread. */
#ifndef ADWUMA_BASE_DIGEST_H
#define ADWUMA_BASE_DIGEST_H

#include <stdbool.h>
#include <stddef.h>

#include "base/buf.h"

#define SHA1_HEX_LEN 40
#define SHA256_HEX_LEN 64

void sha1_hex(const void *data, size_t n, char out[SHA1_HEX_LEN + 1]);
void sha256_hex(const void *data, size_t n, char out[SHA256_HEX_LEN + 1]);
void base64_encode(struct buf *out, const void *data, size_t n);
bool base64_decode(struct buf *out, const char *text, size_t n); /* RFC 4648 with padding; nothing else is let pass */
void random_hex(char *out, size_t digits);			 /* NUL-terminated; out has digits + 1 bytes */

#endif
