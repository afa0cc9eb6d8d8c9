/* SPDX-License-Identifier: MIT
 *
 * Three clocks by name. mono measures; real is stored and shown; boot also counts time the machine was suspended,
 * so it alone may judge a lease. Any thread. */
#ifndef ADWUMA_BASE_CLOCK_H
#define ADWUMA_BASE_CLOCK_H

#include <stdint.h>

int64_t clock_mono_us(void);
int64_t clock_mono_ms(void);
int64_t clock_real_ms(void);
int64_t clock_boot_ms(void);

/* Sleeps that long; a signal ends it early. */
void clock_nap(int64_t ms);

#endif
