/* 128 times 128 rounds. */
#include "naam.h"
META(too_long_nested, 0, 1024, 0);
u32 too_long_nested(struct naam_msg *m, const struct naam_view64 *v)
{
	if (!m || !v)
		return FAIL;
	u64 sum = 0;
#pragma clang loop unroll(disable)
	for (u32 i = 0; i < 128; i++)
#pragma clang loop unroll(disable)
		for (u32 j = 0; j < 128; j++)
			sum += m->args[i] * m->args[j];
	m->reply[0] = sum;
	return DONE;
}
