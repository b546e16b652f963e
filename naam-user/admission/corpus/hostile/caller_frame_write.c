/* A function writes to its caller's frame from its own. */
#include "naam.h"
META(caller_frame_write, 0, 1024, 0);
NOINLINE void reach(void)
{
	asm volatile("r3 = 7\n*(u64 *)(r10 + 504) = r3" ::: "r3", "memory"); /* refused */
}
u32 caller_frame_write(struct naam_msg *m, const struct naam_view64 *v)
{
	if (!m || !v)
		return FAIL;
	u64 slot = 1;
	OPAQUE(m);
	asm volatile("*(u64 *)(r10 - 8) = %0" :: "r"(slot) : "memory");
	reach();
	return DONE;
}
