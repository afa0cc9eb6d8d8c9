/* SPDX-License-Identifier: MIT
 *
 * Which addresses belong to the public Internet. Pure.
 *
 * All are held as IPv6; IPv4 as ::ffff:a.b.c.d, which the two are one in. */
#ifndef ADWUMA_HTTP_ADDRESS_H
#define ADWUMA_HTTP_ADDRESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

struct address {
	uint8_t bytes[16];
};
#define ADDRESS_BITS 128
#define ADDRESS_V4_BITS 96 /* of the prefix in front of an IPv4 address */

/* n bytes: an IPv4 address of four decimal numbers, or an IPv6 address, also between brackets. */
bool address_parse(const char *text, size_t n, struct address *out);
/* False: neither IPv4 nor IPv6. */
bool address_from_socket(const struct sockaddr *from, struct address *out);
bool address_is_v4(const struct address *a);
/* The first bits (0-128) of both are the same. */
bool address_within(const struct address *a, const struct address *net, unsigned bits);
bool address_is_loopback(const struct address *a);
/* Anybody's and nobody's own: not private, local, shared, reserved, for documentation, to many, or a cloud's inside. An address that carries an
 * IPv4 address (mapped, NAT64, 6to4) is what that one is. */
bool address_is_public(const struct address *a);

#endif
