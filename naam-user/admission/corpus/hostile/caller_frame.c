/* A function reaches for its caller's frame from its own. */
#include "naam.h"
META(caller_frame, 0, 1024, 0);
NOINLINE u64 reach(u64 n)
{
	u64 w;
	asm volatile("%0 = *(u64 *)(r10 + 8)" : "=r"(w)); /* refused */
	return w + n;
}
u32 caller_frame(struct naam_msg *m, const struct naam_view64 *v)
{
	if (!m || !v)
		return FAIL;
	m->reply[0] = reach(m->args[0]);
	return DONE;
}
