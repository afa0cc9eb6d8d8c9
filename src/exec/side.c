/* SPDX-License-Identifier: MIT */
#include "exec/side.h"

int side_open(struct side *s, struct error *err)
{
	if (!s->r)
		s->r = redis_open_routed(s->address, true, err);
	return s->r ? 0 : -1;
}

void side_close(struct side *s)
{
	redis_close(s->r);
	s->r = NULL;
}
