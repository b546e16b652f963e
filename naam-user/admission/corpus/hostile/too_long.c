/* Ten thousand rounds. */
#include "naam.h"
META(too_long, 0, 1024, 0);
u32 too_long(struct naam_msg *m, const struct naam_view64 *v)
{
	if (!m || !v)
		return FAIL;
	u64 sum = 0;
#pragma clang loop unroll(disable)
	for (u32 i = 0; i < 10000; i++)
		sum += m->args[i & 127] ^ i;
	m->reply[0] = sum;
	return DONE;
}
