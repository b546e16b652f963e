/* A loop that counts in the message. */
#include "naam.h"
META(endless_memory, 0, 1024, 0);
u32 endless_memory(struct naam_msg *m, const struct naam_view64 *v)
{
	if (!m || !v)
		return FAIL;
#pragma clang loop unroll(disable)
	for (volatile u64 *n = m->state; *n < 10; (*n)++)
		;
	return DONE;
}
