/* SPDX-License-Identifier: MIT */
#include "base/digest.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdlib.h>
#include <sys/random.h>

static const char hex[] = "0123456789abcdef";

static void digest_hex(const EVP_MD *md, const void *data, size_t n, char *out)
{
	unsigned char sum[EVP_MAX_MD_SIZE];
	unsigned len = 0;

	if (EVP_Digest(data, n, sum, &len, md, NULL) != 1)
		abort(); /* only out of memory: a wrong hash would be worse */
	for (unsigned i = 0; i < len; i++) {
		out[2 * i] = hex[sum[i] >> 4];
		out[2 * i + 1] = hex[sum[i] & 15];
	}
	out[2 * len] = '\0';
}

void sha1_hex(const void *data, size_t n, char out[SHA1_HEX_LEN + 1])
{
	digest_hex(EVP_sha1(), data, n, out);
}

void sha256_hex(const void *data, size_t n, char out[SHA256_HEX_LEN + 1])
{
	digest_hex(EVP_sha256(), data, n, out);
}

/* EVP takes lengths as int, so both ways work in blocks. */
#define ENCODE_BLOCK 49152
#define DECODE_BLOCK 65536

void base64_encode(struct buf *out, const void *data, size_t n)
{
	const unsigned char *from = data;

	while (n > 0) {
		size_t part = n < ENCODE_BLOCK ? n : ENCODE_BLOCK;
		char *to = buf_reserve(out, (part + 2) / 3 * 4); /* EVP's NUL falls on ours */

		if (!to)
			return;
		out->len += (size_t)EVP_EncodeBlock((unsigned char *)to, from, (int)part);
		from += part;
		n -= part;
	}
}

static bool is_base64(char c)
{
	return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '+' || c == '/';
}

bool base64_decode(struct buf *out, const char *text, size_t n)
{
	size_t start = out->len, padding = 0;

	while (padding < 2 && padding < n && text[n - 1 - padding] == '=')
		padding++;
	/* EVP_DecodeBlock lets white space and other things pass. */
	for (size_t i = 0; i < n - padding; i++)
		if (!is_base64(text[i]))
			return false;
	if (n % 4 != 0)
		return false;
	while (n > 0) {
		size_t part = n < DECODE_BLOCK ? n : DECODE_BLOCK;
		char *to = buf_reserve(out, part / 4 * 3);
		int got = to ? EVP_DecodeBlock((unsigned char *)to, (const unsigned char *)text, (int)part) : -1;

		if (got < 0) {
			buf_cut(out, start);
			return false;
		}
		out->len += (size_t)got;
		text += part;
		n -= part;
	}
	if (out->len > start) {
		out->len -= padding;
		out->ptr[out->len] = '\0';
	}
	return true;
}

void random_hex(char *out, size_t digits)
{
	unsigned char bytes[32];
	size_t i = 0;

	while (i < digits) {
		ssize_t got = getrandom(bytes, digits - i < sizeof bytes ? digits - i : sizeof bytes, 0);

		if (got < 0 && errno != EINTR)
			abort(); /* cannot happen on the kernels we run on; a predictable name would be worse */
		for (ssize_t k = 0; k < got && i < digits; k++)
			out[i++] = hex[bytes[k] & 15];
	}
	out[digits] = '\0';
}
