/* Two functions call each other. */
#include "naam.h"
META(recursion_mutual, 0, 1024, 0);
NOINLINE u64 odd(struct naam_msg *m, u64 n);
NOINLINE u64 even(struct naam_msg *m, u64 n)
{
	OPAQUE(n);
	return n ? odd(m, n - 1) + 1 : 0;
}
NOINLINE u64 odd(struct naam_msg *m, u64 n)
{
	OPAQUE(n);
	return n ? even(m, n - 1) + 1 : 0;
}
u32 recursion_mutual(struct naam_msg *m, const struct naam_view64 *v)
{
	if (!m || !v)
		return FAIL;
	m->reply[0] = even(m, m->args[0]);
	return DONE;
}
