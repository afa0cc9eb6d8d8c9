/* SPDX-License-Identifier: MIT
 *
 * See address.h. The tables are IANA's registries of special-purpose addresses (RFC 6890 and its updates). */
#include "http/address.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <string.h>

struct net4 {
	uint32_t first;
	unsigned bits;
};

#define V4(a, b, c, d) ((uint32_t)(a) << 24 | (uint32_t)(b) << 16 | (uint32_t)(c) << 8 | (uint32_t)(d))

static const struct net4 not_public4[] = {
	{V4(0, 0, 0, 0), 8},	    /* this host; connects to itself */
	{V4(10, 0, 0, 0), 8},	    /* private */
	{V4(100, 64, 0, 0), 10},    /* a provider's own, CGNAT; a cloud's metadata at 100.100.100.200 */
	{V4(127, 0, 0, 0), 8},	    /* loopback */
	{V4(168, 63, 129, 16), 32}, /* looks public: inside a cloud it is the host machine's agent */
	{V4(169, 254, 0, 0), 16},   /* link-local; most clouds' metadata at 169.254.169.254 */
	{V4(172, 16, 0, 0), 12},    /* private */
	{V4(192, 0, 0, 0), 24},	    /* protocol assignments; a cloud's metadata at 192.0.0.192 */
	{V4(192, 0, 2, 0), 24},	    /* documentation */
	{V4(192, 88, 99, 0), 24},   /* 6to4 relays */
	{V4(192, 168, 0, 0), 16},   /* private */
	{V4(198, 18, 0, 0), 15},    /* benchmarks */
	{V4(198, 51, 100, 0), 24},  /* documentation */
	{V4(203, 0, 113, 0), 24},   /* documentation */
	{V4(224, 0, 0, 0), 3},	    /* multicast, reserved, broadcast */
};

struct net6 {
	uint8_t first[4];
	unsigned bits;
};

/* Within 2000::/3; outside of it nothing is public but what carries an IPv4 address. */
static const struct net6 not_public6[] = {
	{{0x20, 0x01, 0x00, 0x00}, 23}, /* protocol assignments: Teredo, benchmarks, ORCHID */
	{{0x20, 0x01, 0x0d, 0xb8}, 32}, /* documentation */
	{{0x3f, 0xff, 0x00, 0x00}, 20}, /* documentation */
};

static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
static const uint8_t nat64[12] = {0, 0x64, 0xff, 0x9b};

bool address_parse(const char *text, size_t n, struct address *out)
{
	char copy[INET6_ADDRSTRLEN];
	bool brackets = n >= 2 && text[0] == '[' && text[n - 1] == ']';

	if (brackets) {
		text++;
		n -= 2;
	}
	if (n >= sizeof copy)
		return false;
	memcpy(copy, text, n);
	copy[n] = '\0';
	if (inet_pton(AF_INET6, copy, out->bytes) == 1)
		return true;
	memcpy(out->bytes, mapped, sizeof mapped);
	return !brackets && inet_pton(AF_INET, copy, out->bytes + sizeof mapped) == 1;
}

bool address_from_socket(const struct sockaddr *from, struct address *out)
{
	if (from->sa_family == AF_INET6) {
		struct sockaddr_in6 in6;

		memcpy(&in6, from, sizeof in6);
		memcpy(out->bytes, &in6.sin6_addr, sizeof out->bytes);
	} else if (from->sa_family == AF_INET) {
		struct sockaddr_in in;

		memcpy(&in, from, sizeof in);
		memcpy(out->bytes, mapped, sizeof mapped);
		memcpy(out->bytes + sizeof mapped, &in.sin_addr, sizeof in.sin_addr);
	} else {
		return false;
	}
	return true;
}

bool address_is_v4(const struct address *a)
{
	return memcmp(a->bytes, mapped, sizeof mapped) == 0;
}

bool address_within(const struct address *a, const struct address *net, unsigned bits)
{
	unsigned whole = bits / 8, rest = bits % 8;

	return memcmp(a->bytes, net->bytes, whole) == 0 &&
	       (rest == 0 || (a->bytes[whole] ^ net->bytes[whole]) >> (8 - rest) == 0);
}

bool address_is_loopback(const struct address *a)
{
	static const struct address v6 = {{[15] = 1}};

	return address_within(a, &v6, ADDRESS_BITS) || (address_is_v4(a) && a->bytes[12] == 127);
}

static bool v4_is_public(const uint8_t b[4])
{
	uint32_t a = V4(b[0], b[1], b[2], b[3]);

	for (size_t i = 0; i < sizeof not_public4 / sizeof *not_public4; i++)
		if ((a ^ not_public4[i].first) >> (32 - not_public4[i].bits) == 0)
			return false;
	return true;
}

bool address_is_public(const struct address *a)
{
	const uint8_t *b = a->bytes;

	if (address_is_v4(a) || memcmp(b, nat64, sizeof nat64) == 0)
		return v4_is_public(b + 12);
	if (b[0] == 0x20 && b[1] == 0x02) /* 6to4 */
		return v4_is_public(b + 2);
	for (size_t i = 0; i < sizeof not_public6 / sizeof *not_public6; i++) {
		struct address net = {{0}};

		memcpy(net.bytes, not_public6[i].first, sizeof not_public6[i].first);
		if (address_within(a, &net, not_public6[i].bits))
			return false;
	}
	return b[0] >> 5 == 1;
}
