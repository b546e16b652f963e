/* A function returns the address of its stack. */
#include "naam.h"
META(frame_returned, 0, 1024, 0);
NOINLINE u64 *own(void)
{
	u64 slot = 5;
	u64 *at = &slot;
	OPAQUE(at);
	return at; /* refused */
}
u32 frame_returned(struct naam_msg *m, const struct naam_view64 *v)
{
	if (!m || !v)
		return FAIL;
	m->reply[0] = *own();
	return DONE;
}
