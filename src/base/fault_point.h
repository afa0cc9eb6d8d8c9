/* SPDX-License-Identifier: MIT
 *
 * Named places at which a test build breaks something, so that recovery is tried at every step (make FAULTS=1). ADWUMA_FAULT=name[=what][@n] in
 * the environment does it at the n-th passage: kill (the default) kills the process, cut breaks every connection it has, stall stops this
 * thread for ever. In every other build they are nothing.
 *
 * There is one before and one after whatever touches Redis or the API; the table in tests/system/test_fault_points.py lists them all. */
#ifndef ADWUMA_BASE_FAULT_POINT_H
#define ADWUMA_BASE_FAULT_POINT_H

#ifdef ADWUMA_FAULTS
void fault_point(const char *name);
#else
static inline void fault_point(const char *name)
{
	(void)name;
}
#endif

#endif
