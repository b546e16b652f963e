/* Binary search over 128 sorted words, then a linear one for the best. */
#include "naam.h"
META(search, 0, 24, 0);
u32 search(struct naam_msg *m, const struct naam_view1k *v)
{
	if (!m || !v)
		return FAIL;
	u64 want = m->args[0];
	u32 low = 0;
#pragma clang loop unroll(disable)
	for (u32 step = 64; step; step >>= 1)
		if (v->w[(low + step) & 127] <= want)
			low = (low + step) & 127;
	u32 best = 0;
#pragma clang loop unroll(disable)
	for (u32 i = 0; i < 64; i++)
		if (v->w[i] > v->w[best & 127])
			best = i;
	m->reply[0] = low;
	m->reply[1] = v->w[low & 127];
	m->reply[2] = best;
	m->reply_len = 24;
	return DONE;
}
