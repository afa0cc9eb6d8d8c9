/* SPDX-License-Identifier: MIT
 *
 * A list of hosts that may be fetched from (setting audio_url_allow). Its words, between commas or blanks, are
 *
 *   example.org          this very name, whatever its case          *.example.org   the names below it, not itself
 *   192.0.2.7, ::1       an address                                  10.0.0.0/8      a network's addresses
 *
 * and each but a network may end in :PORT (an IPv6 address then stands in brackets), else it allows every port. Pure. */
#ifndef ADWUMA_HTTP_ALLOW_H
#define ADWUMA_HTTP_ALLOW_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "http/address.h"

/* 0, or -1 with ERR_CONFIG: which word is wrong and why. */
int allow_check(const char *list, struct error *err);
/* Whether a URL may name host (without a final dot, an IPv6 address in brackets) and port. */
bool allow_host(const char *list, const char *host, uint16_t port);
/* Whether the list holds this address itself, by an address or a network of it. */
bool allow_address(const char *list, const struct address *address, uint16_t port);

#endif
