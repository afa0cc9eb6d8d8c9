/* SPDX-License-Identifier: MIT
 *
 * Named places at which a test build kills the process, so that recovery is tried at every step (make FAULTS=1; ADWUMA_FAULT=name[@n] in
 * the environment kills at the n-th passage). In every other build they are nothing. */
#ifndef ADWUMA_WORKER_FAULT_POINT_H
#define ADWUMA_WORKER_FAULT_POINT_H

#ifdef ADWUMA_FAULTS
void fault_point(const char *name);
#else
static inline void fault_point(const char *name)
{
	(void)name;
}
#endif

#endif
