/* A pointer takes the way through the stack. */
#include "naam.h"
META(pointer_through_stack, 0, 1024, 0);
u32 pointer_through_stack(struct naam_msg *m, const struct naam_view64 *v)
{
	if (!m || !v)
		return FAIL;
	u64 slots[2];
	slots[1] = m->args[0];
	u64 *at = slots;
	OPAQUE(at);
	at[0] = (u64)v;
	m->reply[0] = *(volatile u64 *)at; /* refused */
	return DONE;
}
