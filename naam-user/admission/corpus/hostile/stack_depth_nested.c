/* Two frames of 160 bytes. */
#include "naam.h"
META(stack_depth_nested, 0, 1024, 0);
NOINLINE u64 below(u64 n)
{
	volatile u64 words[20];
	for (u32 i = 0; i < 20; i++)
		words[i] = n; /* refused */
	return words[3];
}
u32 stack_depth_nested(struct naam_msg *m, const struct naam_view64 *v)
{
	if (!m || !v)
		return FAIL;
	volatile u64 words[20];
	for (u32 i = 0; i < 20; i++)
		words[i] = i;
	m->reply[0] = below(words[0]);
	return DONE;
}
