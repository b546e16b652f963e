/* A pointer takes the way through a function. */
#include "naam.h"
META(pointer_through_function, 0, 1024, 0);
NOINLINE u64 launder(u64 n)
{
	OPAQUE(n);
	return n;
}
u32 pointer_through_function(struct naam_msg *m, const struct naam_view64 *v)
{
	if (!m || !v)
		return FAIL;
	m->reply[0] = launder((u64)v); /* refused */
	return DONE;
}
