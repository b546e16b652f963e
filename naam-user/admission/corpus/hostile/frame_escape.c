/* A function leaves the address of its stack with its caller. */
#include "naam.h"
META(frame_escape, 0, 1024, 0);
NOINLINE void lend(u64 **to)
{
	u64 own = 5;
	u64 *at = &own;
	OPAQUE(at);
	*to = at; /* refused */
}
u32 frame_escape(struct naam_msg *m, const struct naam_view64 *v)
{
	if (!m || !v)
		return FAIL;
	u64 *slot;
	lend(&slot);
	m->reply[0] = *slot;
	return DONE;
}
