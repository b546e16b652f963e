/* Constant bound, variable bound under a constant one, count-down, early exit. */
#include "naam.h"
META(loops, 0, 1024, 0);
u32 loops(struct naam_msg *m, const struct naam_view1k *v)
{
	if (!m || !v)
		return FAIL;
	u64 sum = 0, odd = 0, n = m->args[0];
#pragma clang loop unroll(disable)
	for (u32 i = 0; i < 128; i++) {
		sum += v->w[i];
		if (v->w[i] & 1)
			odd++;
	}
#pragma clang loop unroll(disable)
	for (u64 i = 0; i < n && i < 125; i++)
		m->reply[i] = v->w[i] ^ sum;
	u32 left = m->arg_len;
	if (left > 136)
		return FAIL;
#pragma clang loop unroll(disable)
	while (left--) {
		if (m->args[left] == 0)
			break;
		sum ^= m->args[left];
	}
	m->reply[126] = odd;
	m->reply[127] = sum;
	m->reply_len = 1024;
	return DONE;
}
