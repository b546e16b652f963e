/* Whether it ends is an open problem. */
#include "naam.h"
META(endless_loop, 0, 1024, 0);
u32 endless_loop(struct naam_msg *m, const struct naam_view64 *v)
{
	if (!m || !v)
		return FAIL;
	u64 n = m->args[0];
#pragma clang loop unroll(disable)
	while (n != 1) {
		n = n & 1 ? 3 * n + 1 : n >> 1; /* refused */
		OPAQUE(n);
	}
	m->reply[0] = n;
	return DONE;
}
