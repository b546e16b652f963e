/* A function calls itself. */
#include "naam.h"
META(recursion, 0, 1024, 0);
NOINLINE u64 again(struct naam_msg *m, u64 n)
{
	if (!n)
		return 0;
	u64 rest = again(m, n >> 1);
	OPAQUE(rest);
	return rest + m->args[n & 7];
}
u32 recursion(struct naam_msg *m, const struct naam_view64 *v)
{
	if (!m || !v)
		return FAIL;
	m->reply[0] = again(m, m->args[0]);
	return DONE;
}
