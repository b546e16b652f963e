/* 128 words from the view to the reply, from a masked and from a compared index. */
#include "naam.h"
META(copy128, 0, 1024, 0);
u32 copy128(struct naam_msg *m, const struct naam_view1k *v)
{
	if (!m || !v)
		return FAIL;
#pragma clang loop unroll(disable)
	for (u32 i = 0; i < 128; i++)
		m->reply[i] = v->w[i];
	u64 from = m->args[0], words = m->args[1];
	if (from > 64 || words > 64)
		return FAIL;
#pragma clang loop unroll(disable)
	for (u64 i = 0; i < words; i++)
		m->reply[(from + i) & 127] = v->w[from + i - (from + i == 128)];
	m->reply_len = 1024;
	return DONE;
}
