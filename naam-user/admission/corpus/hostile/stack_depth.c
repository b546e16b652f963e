/* A frame of 272 bytes. */
#include "naam.h"
META(stack_depth, 0, 1024, 0);
u32 stack_depth(struct naam_msg *m, const struct naam_view64 *v)
{
	if (!m || !v)
		return FAIL;
	volatile u64 words[34];
	for (u32 i = 0; i < 34; i++)
		words[i] = i;
	m->reply[0] = words[3];
	return DONE;
}
