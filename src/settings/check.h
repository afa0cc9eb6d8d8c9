/* SPDX-License-Identifier: MIT
 *
 * Checks of final values. Between the files of settings/ only. */
#ifndef ADWUMA_SETTINGS_CHECK_H
#define ADWUMA_SETTINGS_CHECK_H

#include "settings/settings.h"

/* Ended by a row without name. */
extern const struct settings_rule settings_checks[];
/* Of an API root: a path is put behind it as it stands. */
void settings_strip_slashes(char *url);

#endif
