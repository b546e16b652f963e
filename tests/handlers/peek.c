/* Shows at its first step what it has not written.
 *
 * args[0]: 0 the reply, 1 the state and the op fields, 2 the view
 * args[1]: reply_len to claim
 */
#include "naam.h"
META(peek, 0, 1024, 0);
u32 peek(struct naam_msg *m, const struct naam_view1k *v)
{
	if (!m || !v)
		return FAIL;
	if (m->args[0] == 1) {
		for (u32 i = 0; i < 16; i++)
			m->reply[i] = m->state[i];
		m->reply[16] = m->op_offset;
		m->reply[17] = m->op_value;
		m->reply[18] = m->op_expect;
		m->reply[19] = (u64)m->op_region << 32 | m->op_len;
		m->reply[20] = (u64)m->op_source << 32 | m->op_done;
		m->reply[21] = (u64)m->step << 32 | m->code;
		m->reply[22] = m->reply_len;
	} else if (m->args[0] == 2) {
#pragma clang loop unroll(disable)
		for (u32 i = 0; i < 128; i++)
			m->reply[i] = v->w[i];
	}
	m->reply_len = (u32)m->args[1];
	return DONE;
}
