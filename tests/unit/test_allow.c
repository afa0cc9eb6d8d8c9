/* SPDX-License-Identifier: MIT
 *
 * Which addresses are public, and what a list of hosts allows. */
#include <arpa/inet.h>
#include <check.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "http/address.h"
#include "http/allow.h"

/* Each network by its first and last address, and by its neighbours. */
static const struct {
	const char *text;
	bool public;
} addresses[] = {
	{"0.0.0.0", false},
	{"0.255.255.255", false},
	{"1.0.0.0", true},
	{"8.8.8.8", true},
	{"9.255.255.255", true},
	{"10.0.0.0", false},
	{"10.255.255.255", false},
	{"11.0.0.0", true},
	{"100.63.255.255", true},
	{"100.64.0.0", false},
	{"100.100.100.200", false},
	{"100.127.255.255", false},
	{"100.128.0.0", true},
	{"126.255.255.255", true},
	{"127.0.0.0", false},
	{"127.0.0.1", false},
	{"127.255.255.255", false},
	{"128.0.0.0", true},
	{"168.63.129.15", true},
	{"168.63.129.16", false},
	{"168.63.129.17", true},
	{"169.253.255.255", true},
	{"169.254.0.0", false},
	{"169.254.169.254", false},
	{"169.254.255.255", false},
	{"169.255.0.0", true},
	{"172.15.255.255", true},
	{"172.16.0.0", false},
	{"172.31.255.255", false},
	{"172.32.0.0", true},
	{"191.255.255.255", true},
	{"192.0.0.0", false},
	{"192.0.0.192", false},
	{"192.0.0.255", false},
	{"192.0.1.0", true},
	{"192.0.2.0", false},
	{"192.0.2.255", false},
	{"192.0.3.0", true},
	{"192.88.98.255", true},
	{"192.88.99.0", false},
	{"192.88.99.255", false},
	{"192.88.100.0", true},
	{"192.167.255.255", true},
	{"192.168.0.0", false},
	{"192.168.255.255", false},
	{"192.169.0.0", true},
	{"198.17.255.255", true},
	{"198.18.0.0", false},
	{"198.19.255.255", false},
	{"198.20.0.0", true},
	{"198.51.99.255", true},
	{"198.51.100.0", false},
	{"198.51.100.255", false},
	{"198.51.101.0", true},
	{"203.0.112.255", true},
	{"203.0.113.0", false},
	{"203.0.113.255", false},
	{"203.0.114.0", true},
	{"223.255.255.255", true},
	{"224.0.0.1", false},
	{"239.255.255.255", false},
	{"240.0.0.0", false},
	{"255.255.255.255", false},
	{"::", false},
	{"::1", false},
	{"::2", false},
	{"::8.8.8.8", false}, /* IPv4-compatible: long gone */
	{"::ffff:8.8.8.8", true},
	{"::ffff:127.0.0.1", false},
	{"::ffff:a00:1", false},
	{"::ffff:169.254.169.254", false},
	{"::fffe:8.8.8.8", false},
	{"::ffff:0:8.8.8.8", false}, /* translated */
	{"64:ff9b::8.8.8.8", true},
	{"64:ff9b::10.0.0.1", false},
	{"64:ff9b::169.254.169.254", false},
	{"64:ff9b:1::8.8.8.8", false}, /* NAT64 of somebody's own */
	{"64:ff9b::1:808:808", false},
	{"100::1", false},
	{"1fff:ffff::1", false},
	{"2000::1", true},
	{"2001::1", false}, /* Teredo */
	{"2001:0:4136:e378:8000:63bf:3fff:fdd2", false},
	{"2001:2::1", false},
	{"2001:20::1", false},
	{"2001:1ff:ffff::1", false},
	{"2001:200::1", true},
	{"2001:db7:ffff::1", true},
	{"2001:db8::1", false},
	{"2001:db8:ffff::1", false},
	{"2001:db9::1", true},
	{"2001:4860:4860::8888", true},
	{"2002:808:808::1", true},
	{"2002:7f00:1::1", false},
	{"2002:a9fe:a9fe::1", false},
	{"2002:c0a8:101::1", false},
	{"2003::1", true},
	{"2606:4700::1111", true},
	{"3ffe:ffff::1", true},
	{"3fff::1", false},
	{"3fff:fff:ffff::1", false},
	{"3fff:1000::1", true},
	{"4000::1", false},
	{"5f00::1", false},
	{"fbff::1", false},
	{"fc00::1", false},
	{"fd00:ec2::254", false},
	{"fdff:ffff::1", false},
	{"fe80::1", false},
	{"febf:ffff::1", false},
	{"fec0::1", false},
	{"ff02::1", false},
	{"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", false},
};

START_TEST(an_address_is_public_or_not)
{
	const char *text = addresses[_i].text;
	struct address a, from_socket;
	struct sockaddr_in in = {.sin_family = AF_INET};
	struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};

	ck_assert_msg(address_parse(text, strlen(text), &a), "%s", text);
	ck_assert_msg(address_is_public(&a) == addresses[_i].public, "%s", text);
	if (inet_pton(AF_INET, text, &in.sin_addr) == 1)
		ck_assert(address_from_socket((const struct sockaddr *)(const void *)&in, &from_socket));
	else if (inet_pton(AF_INET6, text, &in6.sin6_addr) == 1)
		ck_assert(address_from_socket((const struct sockaddr *)(const void *)&in6, &from_socket));
	ck_assert_mem_eq(&a, &from_socket, sizeof a);
}
END_TEST

START_TEST(other_families_are_no_addresses)
{
	struct sockaddr unix_socket = {.sa_family = AF_UNIX};
	struct address a;

	ck_assert(!address_from_socket(&unix_socket, &a));
}
END_TEST

/* What other parsers take for 127.0.0.1 is no address here; a URL's parser has made it one before. */
static const char *const no_addresses[] = {"",
					   "2130706433",
					   "0x7f.1",
					   "127.1",
					   "0177.0.0.1",
					   "127.0.0.1 ",
					   "127.0.0.1.",
					   "[127.0.0.1]",
					   "[::1",
					   "::1]",
					   "[]",
					   "[::1]:80",
					   "::1%lo",
					   "1.2.3.256",
					   "localhost",
					   "1:2:3:4:5:6:7:8:9",
					   "::ffff:127.0.0.1:::::::::::::::::::::::::::::::::::::::"};

START_TEST(other_spellings_are_no_addresses)
{
	struct address a;

	ck_assert_msg(!address_parse(no_addresses[_i], strlen(no_addresses[_i]), &a), "%s", no_addresses[_i]);
}
END_TEST

static const struct {
	const char *text;
	bool loopback;
} loopbacks[] = {{"127.0.0.1", true},  {"127.1.2.3", true},    {"::1", true},  {"::ffff:127.0.0.1", true},
		 {"128.0.0.1", false}, {"::127.0.0.1", false}, {"::2", false}, {"126.0.0.1", false}};

START_TEST(loopback_is_told)
{
	struct address a;

	ck_assert(address_parse(loopbacks[_i].text, strlen(loopbacks[_i].text), &a));
	ck_assert_msg(address_is_loopback(&a) == loopbacks[_i].loopback, "%s", loopbacks[_i].text);
}
END_TEST

static const struct {
	const char *list, *host;
	uint16_t port;
	bool allowed;
} hosts[] = {
	{"example.org", "example.org", 443, true},
	{"example.org", "EXAMPLE.org", 8443, true},
	{"Example.ORG", "example.org", 443, true},
	{"example.org", "www.example.org", 443, false},
	{"example.org", "example.org.", 443, false},
	{"example.org", "badexample.org", 443, false},
	{"example.org", "example.or", 443, false},
	{"example.org", "example.org.evil.net", 443, false},
	{"a.org example.org\tb.org,c.org", "b.org", 443, true},
	{" ,, a.org ,", "a.org", 443, true},
	{"a.org, b.org", "", 443, false},
	{"", "a.org", 443, false},
	{"example.org:8443", "example.org", 8443, true},
	{"example.org:8443", "example.org", 443, false},
	{"*.example.org", "a.example.org", 443, true},
	{"*.example.org", "b.a.EXAMPLE.org", 443, true},
	{"*.example.org", "example.org", 443, false},
	{"*.example.org", ".example.org", 443, false},
	{"*.example.org", "aexample.org", 443, false},
	{"*.example.org:444", "a.example.org", 443, false},
	{"*.example.org:444", "a.example.org", 444, true},
	{"127.0.0.1", "127.0.0.1", 80, true},
	{"127.0.0.1", "127.0.0.2", 80, false},
	{"127.0.0.1:81", "127.0.0.1", 80, false},
	{"127.0.0.1:81", "127.0.0.1", 81, true},
	{"127.0.0.1", "[::ffff:127.0.0.1]", 80, true}, /* the same one */
	{"127.0.0.1", "[::1]", 80, false},
	{"127.0.0.1", "localhost", 80, false},
	{"localhost", "127.0.0.1", 80, false},
	{"::1", "[::1]", 80, true},
	{"[::1]", "[::1]", 80, true},
	{"[::1]:81", "[0:0:0:0:0:0:0:1]", 81, true},
	{"[::1]:81", "[::1]", 80, false},
	{"10.0.0.0/8", "10.255.0.1", 80, true},
	{"10.0.0.0/8", "11.0.0.1", 80, false},
	{"10.9.9.9/9", "10.127.0.1", 80, true},
	{"10.9.9.9/9", "10.128.0.1", 80, false},
	{"192.0.2.7/32", "192.0.2.7", 80, true},
	{"fd00::/8", "[fdff::1]", 80, true},
	{"fd00::/8", "[fe00::1]", 80, false},
	{"[fd00::]/8", "[fd00::1]", 80, true},
	{"fd00::/8", "fd00", 80, false},
	{"4f3a", "4f3a", 80, true},
	{"127.1a", "127.1A", 80, true},
};

START_TEST(a_list_allows_what_it_names)
{
	struct error err = {0};

	ck_assert_int_eq(allow_check(hosts[_i].list, &err), 0);
	ck_assert_msg(allow_host(hosts[_i].list, hosts[_i].host, hosts[_i].port) == hosts[_i].allowed, "%s in %s",
		      hosts[_i].host, hosts[_i].list);
}
END_TEST

static const struct {
	const char *list, *why;
} bad_lists[] = {
	{"https://example.org", "'https://example.org' is no network; a host is written without scheme and path"},
	{"a.org, example.org/audio", "'example.org/audio' is no network"},
	{"10.0.0.0/0", "between 8 and 32 bits"},
	{"10.0.0.0/7", "between 8 and 32 bits"},
	{"10.0.0.0/33", "between 8 and 32 bits"},
	{"10.0.0.0/", "between 8 and 32 bits"},
	{"10.0.0.0/8:80", "between 8 and 32 bits"},
	{"fd00::/129", "between 8 and 32 bits"},
	{"a.org:", "without a port"},
	{"a.org:0", "without a port"},
	{"a.org:65536", "without a port"},
	{"a.org:80x", "without a port"},
	{"a.org:999999999999", "without a port"},
	{"[::1", "no address in brackets"},
	{"[::1]80", "no address in brackets"},
	{"[a.org]:80", "neither a host's name nor an address"},
	{"*", "neither"},
	{"*.", "neither"},
	{"**.a.org", "neither"},
	{"a.*.org", "neither"},
	{".a.org", "neither"},
	{"a..org", "neither"},
	{"a.org.", "neither"},
	{"user@a.org", "neither"},
	{"a\xc3\xa9.org", "neither"},
	{"127.1", "neither"},
	{"0x7f.0.0.0x1", "neither"},
	{"2130706433", "neither"},
	{"1:2:3", "neither"},
	{"*.10.0.0.1", "neither"},
};

START_TEST(a_bad_list_says_why)
{
	struct error err = {0};

	ck_assert_int_eq(allow_check(bad_lists[_i].list, &err), -1);
	ck_assert_int_eq(err.code, ERR_CONFIG);
	ck_assert_msg(strstr(err.msg, bad_lists[_i].why), "%s: %s", bad_lists[_i].list, err.msg);
}
END_TEST

START_TEST(names_list_no_address)
{
	struct address a;

	ck_assert(address_parse("127.0.0.1", 9, &a));
	ck_assert(!allow_address("localhost *.org a.org", &a, 80));
	ck_assert(allow_address("localhost 127.0.0.1", &a, 80));
	ck_assert(!allow_address("localhost 127.0.0.1:81", &a, 80));
	ck_assert(allow_address("127.0.0.0/8", &a, 80));
}
END_TEST

int main(void)
{
	Suite *s = suite_create("allow");
	TCase *t = tcase_create("all");
	SRunner *r;
	int failed;

	tcase_add_loop_test(t, an_address_is_public_or_not, 0, sizeof addresses / sizeof *addresses);
	tcase_add_test(t, other_families_are_no_addresses);
	tcase_add_loop_test(t, other_spellings_are_no_addresses, 0, sizeof no_addresses / sizeof *no_addresses);
	tcase_add_loop_test(t, loopback_is_told, 0, sizeof loopbacks / sizeof *loopbacks);
	tcase_add_loop_test(t, a_list_allows_what_it_names, 0, sizeof hosts / sizeof *hosts);
	tcase_add_loop_test(t, a_bad_list_says_why, 0, sizeof bad_lists / sizeof *bad_lists);
	tcase_add_test(t, names_list_no_address);
	suite_add_tcase(s, t);
	r = srunner_create(s);
	srunner_run_all(r, CK_ENV);
	failed = srunner_ntests_failed(r);
	srunner_free(r);
	return failed != 0;
}
