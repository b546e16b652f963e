/* A counter that may stand still. */
#include "naam.h"
META(endless_step, 0, 1024, 0);
u32 endless_step(struct naam_msg *m, const struct naam_view64 *v)
{
	if (!m || !v)
		return FAIL;
	u32 step = m->args[0] & 1;
	u32 i = 0;
#pragma clang loop unroll(disable)
	while (i < 100) {
		OPAQUE(step);
		i += step & 1;
	}
	return DONE;
}
