/* As many rounds as the client likes. */
#include "naam.h"
META(too_long_unbounded, 0, 1024, 0);
u32 too_long_unbounded(struct naam_msg *m, const struct naam_view64 *v)
{
	if (!m || !v)
		return FAIL;
	u64 n = m->args[0], sum = 1;
#pragma clang loop unroll(disable)
	for (u64 i = 0; i < n; i++)
		sum *= v->w[i & 7];
	m->reply[0] = sum;
	return DONE;
}
