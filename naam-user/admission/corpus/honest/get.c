/* Two steps: a bucket of seven tagged entries, then the item. */
#include "naam.h"
META(get, 0, 40, 16);
u32 get(struct naam_msg *m, const struct naam_view64 *v)
{
	if (!m || !v)
		return FAIL;
	u64 hash = m->args[0];
	switch (m->state[0]) {
	case 2:
		if (v->w[1] == m->args[1] && v->w[2] == m->args[2]) {
			__builtin_memcpy(m->reply, &v->w[3], 40);
			m->reply_len = 40;
			return DONE;
		}
		m->op_offset = (hash & 0x3ffff) << 6;
		m->state[0] = 1;
		m->op_len = 64;
		return READ;
	case 1:
		for (u32 i = 0; i < 7; i++) {
			u64 e = v->w[i + 1];
			if (i >= m->state[1] && e && e >> 48 == hash >> 48) {
				m->state[0] = 2;
				m->state[1] = i + 1;
				m->op_offset = e & 0xffffffffffffULL;
				m->op_len = 64;
				return READ;
			}
		}
		m->code = 1;
		m->reply_len = 0;
		return DONE;
	default:
		m->op_region = 0;
		m->op_offset = (hash & 0x3ffff) << 6;
		m->op_len = 64;
		m->state[0] = 1;
		m->state[1] = 0;
		return READ;
	}
}
