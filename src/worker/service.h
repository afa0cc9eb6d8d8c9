/* SPDX-License-Identifier: MIT
 *
 * The worker service: start and stop of all its parts, in order. Called from main only. */
#ifndef ADWUMA_WORKER_SERVICE_H
#define ADWUMA_WORKER_SERVICE_H

#include "base/err.h"
#include "settings/settings.h"

/* What makes addresses and the CA file usable, for settings_load. */
extern const struct settings_rule service_rules[];

struct service;

/* Waits for Redis where it is away (telling so once); stop_asked is asked meanwhile. ERR_REFUSED: Redis does not want us. Returns owned. */
struct service *service_start(const struct settings *settings, bool (*stop_asked)(void), struct error *err);
void service_quiet(struct service *s, bool quiet);
/* Drains: blocks until all is settled, or drain_timeout_s has passed and what ran was handed back. hurry is asked all the time: when
 * it says true, running calls are cut off at once. Returns whether Redis could be told (else jobs stay in their slots for others). */
bool service_stop(struct service *s, bool (*hurry)(void));
bool service_alive(const struct service *s); /* all its loops turn; between start and stop */
void service_log(struct service *s);
void service_free(struct service *s);

#endif
