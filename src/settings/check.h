/* SPDX-License-Identifier: MIT
 *
 * Checks of final values. Between the files of settings/ only. */
#ifndef ADWUMA_SETTINGS_CHECK_H
#define ADWUMA_SETTINGS_CHECK_H

#include "settings/settings.h"

/* Returns 0, or -1 with err (without name and place) and the setting at fault in *name. Trailing slashes of API roots are cut. */
int settings_check(struct settings *s, const char **name, struct error *err);

#endif
