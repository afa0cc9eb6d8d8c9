/* SPDX-License-Identifier: MIT
 *
 * Buffers, UTF-8, digests, the Redis URL. */
#include <check.h>
#include <stdlib.h>
#include <string.h>

#include "base/buf.h"
#include "base/digest.h"
#include "base/utf8.h"
#include "queue/keys.h"
#include "redis/connection.h"

static struct buf b;

static void setup(void)
{
	b = BUF_INIT(1 << 20);
}

static void teardown(void)
{
	buf_release(&b);
}

START_TEST(a_buffer_keeps_its_bound)
{
	struct buf small = BUF_INIT(10);

	buf_str_add(&small, "12345");
	buf_str_add(&small, "67890");
	ck_assert(!small.failed && small.len == 10);
	buf_char(&small, 'x');
	ck_assert(small.failed && small.len == 10);
	buf_str_add(&small, "");
	ck_assert(small.failed);
	buf_clear(&small);
	buf_printf(&small, "%s", "12345678901");
	ck_assert(small.failed && small.len == 0);
	buf_release(&small);
}
END_TEST

START_TEST(strings_are_escaped)
{
	buf_json_string(&b, "a\"b\\c\n\r\t\x01\x7f\xc3\xa9\xff\xf0\x9f\x98\x80\0z", 19);
	ck_assert_str_eq(b.ptr, "\"a\\\"b\\\\c\\n\\r\\t\\u0001\\u007f\xc3\xa9\xef\xbf\xbd\xf0\x9f\x98\x80\\u0000z\"");
}
END_TEST

START_TEST(numbers_are_plain)
{
	buf_int(&b, INT64_MIN);
	buf_char(&b, ' ');
	buf_int(&b, 0);
	buf_char(&b, ' ');
	buf_json_double(&b, 1.25, 3);
	buf_char(&b, ' ');
	buf_json_double(&b, -0.0004, 3);
	buf_char(&b, ' ');
	buf_json_double(&b, 2.9996, 3);
	buf_char(&b, ' ');
	buf_json_double(&b, 0.05, 3);
	buf_char(&b, ' ');
	buf_json_double(&b, 1.0 / 0.0, 3);
	ck_assert_str_eq(b.ptr, "-9223372036854775808 0 1.25 0 3 0.05 null");
}
END_TEST

START_TEST(utf8)
{
	ck_assert(utf8_valid("\xe2\x82\xac", 3) && !utf8_valid("\xe2\x82", 2) && !utf8_valid("\xc0\xaf", 2) &&
		  !utf8_valid("\xed\xbf\xbf", 3));
	ck_assert_uint_eq(utf8_cut("a\xe2\x82\xac", 4, 3), 1);
	ck_assert_uint_eq(utf8_cut("a\xe2\x82\xac", 4, 4), 4);
	utf8_repair(&b,
		    "a\xff\xfe"
		    "b\xe2\x82",
		    6);
	ck_assert_str_eq(b.ptr, "a\xef\xbf\xbd\xef\xbf\xbd"
				"b\xef\xbf\xbd");
	buf_clear(&b);
	utf8_snippet(&b, " \n a \t b\xc3\xa9 c ", 13, 5);
	ck_assert_str_eq(b.ptr, "a b\xc3\xa9 ");
	buf_clear(&b);
	utf8_snippet(&b, "  x  ", 5, 200);
	ck_assert_str_eq(b.ptr, "x");
}
END_TEST

START_TEST(digests)
{
	char hex[SHA256_HEX_LEN + 1];

	sha1_hex("abc", 3, hex);
	ck_assert_str_eq(hex, "a9993e364706816aba3e25717850c26c9cd0d89d");
	sha256_hex("", 0, hex);
	ck_assert_str_eq(hex, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}
END_TEST

START_TEST(base64_both_ways)
{
	static const char *const bad[] = {"A",	  "AA",	    "AAA",  "AA=A",  "A===", "====",
					  "AA A", "AAAA\n", "!!!!", "AAAAA", "=AAA"};
	char *data = malloc(200000);
	struct buf back = BUF_INIT(1 << 20);

	for (size_t i = 0; i < 200000; i++)
		data[i] = (char)(i * 7 + i / 256);
	for (size_t n = 0; n < 200000; n = n < 10 ? n + 1 : n * 3 + 1) {
		buf_clear(&b);
		buf_clear(&back);
		base64_encode(&b, data, n);
		ck_assert_uint_eq(b.len, (n + 2) / 3 * 4);
		ck_assert(base64_decode(&back, buf_cstr(&b), b.len));
		ck_assert(back.len == n && (n == 0 || memcmp(back.ptr, data, n) == 0));
	}
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		ck_assert_msg(!base64_decode(&back, bad[i], strlen(bad[i])), "%s", bad[i]);
	buf_release(&back);
	free(data);
}
END_TEST

START_TEST(redis_urls)
{
	const struct redis_options better = {.username = "bob", .password = "better"};
	struct redis_address a;
	struct error err;

	ck_assert_int_eq(redis_address_parse(&a, "redis://us%40er:p%3Aw@host:7/3", NULL, &err), 0);
	ck_assert(strcmp(a.points[0].host, "host") == 0 && a.points[0].port == 7 && a.db == 3 &&
		  strcmp(a.username, "us@er") == 0 && strcmp(a.password, "p:w") == 0);
	redis_address_release(&a);
	ck_assert_int_eq(redis_address_parse(&a, "redis://:secret@[::1]", &better, &err), 0);
	ck_assert(strcmp(a.points[0].host, "::1") == 0 && a.points[0].port == 6379 && strcmp(a.username, "bob") == 0 &&
		  strcmp(a.password, "better") == 0);
	redis_address_release(&a);
	ck_assert_int_eq(redis_address_parse(&a, "unix:///run/r.sock?db=2", NULL, &err), 0);
	ck_assert(strcmp(a.socket, "/run/r.sock") == 0 && a.db == 2);
	redis_address_release(&a);
	for (const char *const *bad =
		     (const char *const[]){"redis://h:0", "redis://h:70000", "redis://h/x", "redis://h/1?x",
					   "unix://rel", "unix:///a?x=1", "http://h", "redis://:secret%4@h",
					   "redis://[::1", "redis://a,b", "redis+sentinel://a:1,b:2",
					   "redis+sentinel://a/", "redis+sentinel://a,,b/m", "redis+sentinel://a/m%4/0",
					   "redis+sentinel://a/m/x", "redis+cluster://a/1", "redis+cluster://a,",
					   "redis+other://a", NULL};
	     *bad; bad++) {
		ck_assert_msg(redis_address_parse(&a, *bad, NULL, &err) == -1, "%s", *bad);
		ck_assert_ptr_null(strstr(err.msg, "secret"));
	}
}
END_TEST

START_TEST(redis_urls_of_several)
{
	struct redis_address a;
	struct error err;
	char shown[256];

	ck_assert_int_eq(redis_address_parse(&a, "redis+sentinel://u:p@a,[::1]:7,c:8/my%20master/3", NULL, &err), 0);
	ck_assert(a.kind == REDIS_SENTINEL && a.npoints == 3 && a.db == 3 && strcmp(a.master, "my master") == 0);
	ck_assert(strcmp(a.points[0].host, "a") == 0 && a.points[0].port == 26379 && a.points[1].port == 7 &&
		  a.points[2].port == 8 && strcmp(a.username, "u") == 0 && strcmp(a.password, "p") == 0);
	ck_assert(!redis_spreads(&a));
	redis_address_show(&a, shown, sizeof shown);
	ck_assert_str_eq(shown, "my master by a:26379,[::1]:7,c:8");
	redis_address_show(&a, shown, 20); /* what does not fit is left out */
	ck_assert_str_eq(shown, "my master by a:2637");
	redis_address_release(&a);
	ck_assert_int_eq(redis_address_parse(&a, "redis+cluster://:p@a,b:8", NULL, &err), 0);
	ck_assert(a.kind == REDIS_CLUSTER && a.npoints == 2 && a.points[0].port == 6379 && redis_spreads(&a));
	redis_address_show(&a, shown, sizeof shown);
	ck_assert_str_eq(shown, "cluster a:6379,b:8");
	redis_address_release(&a);
}
END_TEST

/* It would not be sent, and a password without its colon would be shown as the name that it looks like. */
START_TEST(redis_names_need_a_password)
{
	static const char *const names[] = {"redis://secret@h", "redis+sentinel://secret@h/m",
					    "redis+cluster://secret@a,b"};
	const struct redis_options name = {.username = "secret"}, password = {.password = "p"};
	struct redis_address a;
	struct error err;

	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		ck_assert_int_eq(redis_address_parse(&a, names[i], NULL, &err), -1);
		ck_assert(err.code == ERR_CONFIG && strstr(err.msg, "redis://:PASSWORD@") &&
			  !strstr(err.msg, "secret"));
		ck_assert_int_eq(redis_address_parse(&a, names[i], &password, &err), 0);
		ck_assert(strcmp(a.username, "secret") == 0 && strcmp(a.password, "p") == 0);
		redis_address_release(&a);
	}
	ck_assert_int_eq(redis_address_parse(&a, "unix:///run/r.sock", &name, &err), -1);
	ck_assert(err.code == ERR_CONFIG && !strstr(err.msg, "secret"));
	ck_assert_int_eq(redis_address_parse(&a, "redis://:p@h", &name, &err), 0);
	redis_address_release(&a);
	ck_assert_int_eq(redis_address_parse(&a, "redis://u:@h", NULL, &err), 0); /* an empty one, as it stands there */
	redis_address_release(&a);
}
END_TEST

/* What stands before the last @ would be taken for one password, and the first host would be lost. */
START_TEST(redis_hosts_share_one_user)
{
	static const char *const several[] = {"redis+sentinel://u:secret@h1,u:secret@h2/m",
					      "redis+sentinel://h1,u:secret@h2/m",
					      "redis+cluster://u:secret@a,:secret@b"};
	struct redis_address a;
	struct error err;

	for (size_t i = 0; i < sizeof several / sizeof *several; i++) {
		ck_assert_int_eq(redis_address_parse(&a, several[i], NULL, &err), -1);
		ck_assert(err.code == ERR_CONFIG && strstr(err.msg, "once, before the first"));
		ck_assert_ptr_null(strstr(err.msg, "secret"));
	}
	ck_assert_int_eq(redis_address_parse(&a, "redis+sentinel://u:p@%2Cw@h1,h2/m", NULL, &err), 0);
	ck_assert(strcmp(a.password, "p@,w") == 0 && a.npoints == 2);
	redis_address_release(&a);
	ck_assert_int_eq(redis_address_parse(&a, "redis://u:p,w@h", NULL, &err), 0); /* one host: no doubt */
	ck_assert_str_eq(a.password, "p,w");
	redis_address_release(&a);
}
END_TEST

/* Slots as CLUSTER KEYSLOT of a real one gives them. */
START_TEST(cluster_slots)
{
	static const struct {
		const char *key;
		unsigned slot;
	} known[] = {{"123456789", 12739}, {"adwuma:{translate}:ready", 11567}, {"foo", 12182}, {"foo{}{bar}", 8363}};
	struct redis_point from = {"10.0.0.1", 1}, to;
	unsigned slot;

	for (size_t i = 0; i < sizeof known / sizeof *known; i++)
		ck_assert_uint_eq(cluster_slot(known[i].key, strlen(known[i].key)), known[i].slot);
	ck_assert_uint_eq(cluster_slot("adwuma:{translate}:ready", 24), cluster_slot("translate", 9));
	ck_assert_uint_eq(cluster_slot("a{x}b{y}", 8), cluster_slot("x", 1));
	ck_assert(point_of_redirection("MOVED 3999 127.0.0.1:6381", &from, &slot, &to));
	ck_assert(slot == 3999 && strcmp(to.host, "127.0.0.1") == 0 && to.port == 6381);
	ck_assert(point_of_redirection("ASK 1 ::1:6381", &from, &slot, &to));
	ck_assert(strcmp(to.host, "::1") == 0 && to.port == 6381);
	ck_assert(point_of_redirection("MOVED 0 :6381", &from, &slot, &to));
	ck_assert_str_eq(to.host, "10.0.0.1");
	ck_assert(point_of_redirection("ASK 11567 ?:32244", &from, &slot, &to)); /* it does not know its own name */
	ck_assert(strcmp(to.host, "10.0.0.1") == 0 && to.port == 32244);
	ck_assert(!point_of_redirection("MOVED 16384 a:1", &from, &slot, &to));
	ck_assert(!point_of_redirection("MOVED 1 a:0", &from, &slot, &to));
	ck_assert(!point_of_redirection("ERR 1 a:1", &from, &slot, &to));
	ck_assert(!point_of_redirection("MOVED", &from, &slot, &to));
}
END_TEST

/* What follows a MULTI would go to other nodes and be carried out there. */
START_TEST(routes_take_no_multi)
{
	static const char *const forms[] = {"*1\r\n$5\r\nMULTI\r\n", "*1\r\n$5\r\nmulti\r\n"};

	for (size_t i = 0; i < sizeof forms / sizeof *forms; i++) {
		struct error err = {0};

		ck_assert_int_eq(routes_append(NULL, forms[i], strlen(forms[i]), &err), -1);
		ck_assert(err.code == ERR_REFUSED && strstr(err.msg, "MULTI"));
	}
}
END_TEST

START_TEST(key_names)
{
	char name[KEY_MAX];
	struct keys k;

	keys_init(&k, "adwuma", "translate");
	ck_assert_str_eq(k.ready, "adwuma:{translate}:ready");
	ck_assert_uint_eq(key_slot(&k, "w.0", 120, name), strlen("adwuma:{translate}:slot:w.0:120"));
	ck_assert_str_eq(name, "adwuma:{translate}:slot:w.0:120");
	key_slot(&k, "w.0", 0, name);
	ck_assert_str_eq(name, "adwuma:{translate}:slot:w.0:0");
	key_result(&k, "42", name);
	ck_assert_str_eq(name, "adwuma:{translate}:result:42");
	ck_assert(key_is_audio(&k, "adwuma:{other}:audio:x") && !key_is_audio(&k, "adwuma:{other}:audio:") &&
		  !key_is_audio(&k, "adwuma:{}:audio:x"));
	ck_assert(!key_is_audio(&k, "other:{q}:audio:x") && !key_is_audio(&k, "adwuma:{q}:result:x") &&
		  !key_is_audio(&k, "adwuma:"));
}
END_TEST

int main(void)
{
	Suite *s = suite_create("base");
	TCase *t = tcase_create("all");
	SRunner *r;
	int failed;

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, a_buffer_keeps_its_bound);
	tcase_add_test(t, strings_are_escaped);
	tcase_add_test(t, numbers_are_plain);
	tcase_add_test(t, utf8);
	tcase_add_test(t, digests);
	tcase_add_test(t, base64_both_ways);
	tcase_add_test(t, redis_urls);
	tcase_add_test(t, redis_urls_of_several);
	tcase_add_test(t, redis_names_need_a_password);
	tcase_add_test(t, redis_hosts_share_one_user);
	tcase_add_test(t, cluster_slots);
	tcase_add_test(t, routes_take_no_multi);
	tcase_add_test(t, key_names);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
