/* SPDX-License-Identifier: MIT
 *
 * Hashes and base64 against published vectors, and at the edges of the blocks that digest.c works in. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "base/digest.h"

#define MILLION 1000000

static const struct {
	const char *text;
	size_t repeat;
	const char *sha1, *sha256;
} hashes[] = {
	{"", 1, "da39a3ee5e6b4b0d3255bfef95601890afd80709",
	 "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"},
	{"abc", 1, "a9993e364706816aba3e25717850c26c9cd0d89d",
	 "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"},
	{"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 1, "84983e441c3bd26ebaae4aa1f95129e5e54670f1",
	 "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1"},
	{"a", MILLION, "34aa973cd4c4daa4f61eeb2bdbad27316534016f",
	 "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0"},
};

START_TEST(hashes_are_the_published_ones)
{
	struct buf text = BUF_INIT(MILLION);
	char sha1[SHA1_HEX_LEN + 1], sha256[SHA256_HEX_LEN + 1];

	for (size_t i = 0; i < hashes[_i].repeat; i++)
		buf_str_add(&text, hashes[_i].text);
	sha1_hex(buf_cstr(&text), text.len, sha1);
	sha256_hex(buf_cstr(&text), text.len, sha256);
	ck_assert_str_eq(sha1, hashes[_i].sha1);
	ck_assert_str_eq(sha256, hashes[_i].sha256);
	buf_release(&text);
}
END_TEST

START_TEST(hashes_go_on_after_a_nul)
{
	char a[SHA256_HEX_LEN + 1], c[SHA256_HEX_LEN + 1];

	sha256_hex("a\0b", 3, a);
	sha256_hex("a\0c", 3, c);
	ck_assert_str_ne(a, c);
}
END_TEST

static const struct {
	const char *plain, *coded;
} pairs[] = {
	{"", ""},
	{"f", "Zg=="},
	{"fo", "Zm8="},
	{"foo", "Zm9v"},
	{"foob", "Zm9vYg=="},
	{"fooba", "Zm9vYmE="},
	{"foobar", "Zm9vYmFy"},
	{"\xfb\xff\xbf", "+/+/"},
};

START_TEST(base64_is_that_of_the_rfc)
{
	struct buf out = BUF_INIT(100);

	buf_str_add(&out, "> ");
	base64_encode(&out, pairs[_i].plain, strlen(pairs[_i].plain));
	ck_assert_str_eq(out.ptr + 2, pairs[_i].coded);
	buf_clear(&out);
	buf_str_add(&out, "> ");
	ck_assert(base64_decode(&out, pairs[_i].coded, strlen(pairs[_i].coded)));
	ck_assert_str_eq(out.ptr + 2, pairs[_i].plain);
	buf_release(&out);
}
END_TEST

static const char *const refused[] = {
	"A",	 "AA",	   "AAA",	   "AAAAA", "AAAAAA",	"=",	    "==",	  "===",   "====",
	"A===",	 "=AAA",   "A=AA",	   "AA=A",  "AA==AAAA", "AAA=AAAA", "AAAA====",	  "AAAA=", "AA A",
	" AAAA", "AAAA\n", "AAAA\r\n\r\n", "AAA\n", "AA-_",	"AA!A",	    "AA\x80\x80",
};

START_TEST(what_is_not_base64_is_refused_and_leaves_nothing)
{
	struct buf out = BUF_INIT(100);

	buf_str_add(&out, "kept");
	ck_assert_msg(!base64_decode(&out, refused[_i], strlen(refused[_i])), "%s", refused[_i]);
	ck_assert_str_eq(out.ptr, "kept");
	ck_assert(!base64_decode(&out, "AA\0A", 4));
	buf_release(&out);
}
END_TEST

/* Each byte that is none of the alphabet, at each place of a group. */
START_TEST(only_the_alphabet_passes)
{
	static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
	struct buf out = BUF_INIT(100);

	for (int c = 1; c < 256; c++)
		for (int at = 0; at < 8; at++) {
			char text[8];

			if (c == '=' && at == 7)
				continue;
			memset(text, 'A', sizeof text);
			text[at] = (char)c;
			buf_clear(&out);
			ck_assert_int_eq(base64_decode(&out, text, sizeof text), strchr(alphabet, c) != NULL);
		}
	buf_release(&out);
}
END_TEST

/* The blocks of digest.c end at 49,152 plain and 65,536 coded bytes. */
START_TEST(blocks_leave_no_seam)
{
	static const size_t edges[] = {49151, 49152, 49153, 49154, 49155, 98303, 98304, 98305, 150000};

	for (size_t i = 0; i < sizeof edges / sizeof *edges; i++) {
		size_t n = edges[i], coded = (n + 2) / 3 * 4;
		struct buf there = BUF_INIT(coded), back = BUF_INIT(coded);
		unsigned char *data = malloc(n);

		for (size_t k = 0; k < n; k++)
			data[k] = (unsigned char)(k * 7 + k / 256);
		base64_encode(&there, data, n);
		ck_assert(!there.failed && there.len == coded && there.ptr[coded] == '\0');
		ck_assert_uint_eq(strcspn(there.ptr, "="), (n * 4 + 2) / 3);
		ck_assert(base64_decode(&back, there.ptr, there.len));
		ck_assert(back.len == n && memcmp(back.ptr, data, n) == 0);
		if (n > 49152) { /* padding at the end of a block that is not the last */
			there.ptr[65535] = '=';
			ck_assert(!base64_decode(&back, there.ptr, there.len));
			ck_assert_uint_eq(back.len, n);
		}
		free(data);
		buf_release(&there);
		buf_release(&back);
	}
}
END_TEST

START_TEST(bounds_are_kept)
{
	static char many[2 * 65536];
	struct buf out = BUF_INIT(7);

	base64_encode(&out, "abcd", 4);
	ck_assert(out.failed && out.len == 0);
	buf_release(&out);
	out = BUF_INIT(8);
	base64_encode(&out, "abcd", 4);
	ck_assert(!out.failed);
	ck_assert_str_eq(out.ptr, "YWJjZA==");
	buf_release(&out);
	out = BUF_INIT(5);
	ck_assert(!base64_decode(&out, "AAAAAAAA", 8));
	ck_assert(out.failed && out.len == 0);
	buf_release(&out);
	/* The second block does not fit: nothing of the first may stay. */
	out = BUF_INIT(3UL * 65536 / 4 + 100);
	buf_str_add(&out, "kept");
	memset(many, 'A', sizeof many);
	ck_assert(!base64_decode(&out, many, sizeof many));
	ck_assert(out.failed && out.len == 4);
	ck_assert_str_eq(out.ptr, "kept");
	buf_release(&out);
}
END_TEST

START_TEST(random_names_are_hex_and_differ)
{
	static const char digits[] = "0123456789abcdef";
	char a[66], c[66], *many = malloc(4097);

	for (size_t n = 0; n < 65; n++) {
		memset(a, '!', sizeof a);
		random_hex(a, n);
		ck_assert_uint_eq(strspn(a, digits), n);
		ck_assert(a[n] == '\0' && a[n + 1] == '!');
	}
	random_hex(a, 32);
	random_hex(c, 32);
	ck_assert_str_ne(a, c);
	random_hex(many, 4096);
	for (const char *d = digits; *d; d++) {
		size_t count = 0;

		for (const char *at = many; (at = strchr(at, *d)); at++)
			count++;
		ck_assert_msg(count > 128 && count < 384, "%zu times %c of 4096", count,
			      *d); /* 256 expected; eight sigma */
	}
	free(many);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("digest");
	TCase *t = tcase_create("all");
	SRunner *r;
	int failed;

	tcase_add_loop_test(t, hashes_are_the_published_ones, 0, sizeof hashes / sizeof *hashes);
	tcase_add_test(t, hashes_go_on_after_a_nul);
	tcase_add_loop_test(t, base64_is_that_of_the_rfc, 0, sizeof pairs / sizeof *pairs);
	tcase_add_loop_test(t, what_is_not_base64_is_refused_and_leaves_nothing, 0, sizeof refused / sizeof *refused);
	tcase_add_test(t, only_the_alphabet_passes);
	tcase_add_test(t, blocks_leave_no_seam);
	tcase_add_test(t, bounds_are_kept);
	tcase_add_test(t, random_names_are_hex_and_differ);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
