/* SPDX-License-Identifier: MIT
 *
 * Telling the service manager how we are (sd_notify(3), without libsystemd): one datagram to the socket that NOTIFY_SOCKET names. Where there is
 * none, nothing happens. Main thread. */
#ifndef ADWUMA_BASE_NOTIFY_H
#define ADWUMA_BASE_NOTIFY_H

#include <stdint.h>

/* state: "READY=1", "STOPPING=1", "WATCHDOG=1" …; a manager that cannot be told is no error of ours. */
void notify(const char *state);
/* How long the manager's watchdog waits for a sign of life, in ms; 0: it has none for this process (WATCHDOG_USEC, WATCHDOG_PID). */
int64_t notify_watchdog_ms(void);

#endif
