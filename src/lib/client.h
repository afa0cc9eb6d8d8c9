/* SPDX-License-Identifier: MIT
 *
 * For our own programs, which have their settings already. */
#ifndef ADWUMA_LIB_CLIENT_H
#define ADWUMA_LIB_CLIENT_H

#include <stdbool.h>
#include <stdint.h>

#include "adwuma.h"
#include "settings/settings.h"

/* What makes redis_url usable, for settings_load. */
extern const struct settings_rule client_rules[];

/* As adwuma_open, with settings (copied as far as needed). */
adwuma *client_open(const struct settings *settings, struct adwuma_error *err);
/* Whether queues are on several processes of Redis, of which one may be away alone. */
bool client_spreads(const adwuma *client);
/* A submit does not try for much longer than that either, where Redis is away. */
void client_hurry(adwuma *client, int64_t limit_ms);
/* As adwuma_wait, in several queues at once. */
int client_wait(adwuma *client, const char *const *queues, size_t nqueues, const char *id, int64_t timeout_ms,
		char **json, struct adwuma_error *err);

#endif
