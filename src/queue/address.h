/* SPDX-License-Identifier: MIT
 *
 * Where the settings say that Redis is. */
#ifndef ADWUMA_QUEUE_ADDRESS_H
#define ADWUMA_QUEUE_ADDRESS_H

#include "redis/redis.h"
#include "settings/settings.h"

/* *out: release it. ERR_CONFIG with the reason alone. */
int address_from_settings(struct redis_address *out, const struct settings *s, struct error *err);
/* A settings_rule's check of redis_url, with what belongs to it. */
int address_check_url(const struct settings *s, const char *url, struct error *err);

#endif
