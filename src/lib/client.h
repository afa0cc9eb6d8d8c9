/* SPDX-License-Identifier: MIT
 *
 * For our own programs, which have their settings already. */
#ifndef ADWUMA_LIB_CLIENT_H
#define ADWUMA_LIB_CLIENT_H

#include "adwuma.h"
#include "settings/settings.h"

/* As adwuma_open, with settings (copied as far as needed). */
adwuma *client_open(const struct settings *settings, struct adwuma_error *err);

#endif
