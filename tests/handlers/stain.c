/* Leaves marks wherever a handler can write, and looks for marks of others.
 *
 * args[0] 0: fills state, op fields and reply with args[1], READs a KiB, and ends with no reply
 *         1: FAA of 0, then replies with the bits set in view, state, and the reply before it wrote
 */
#include "naam.h"
META(stain, 1, 240, 0);
u32 stain(struct naam_msg *m, const struct naam_view1k *v)
{
	if (!m || !v)
		return FAIL;
	if (m->args[0] == 0) {
		u64 mark = m->args[1];
		for (u32 i = 0; i < 16; i++)
			m->state[i] = mark;
#pragma clang loop unroll(disable)
		for (u32 i = 0; i < 128; i++)
			m->reply[i] = mark;
		if (m->step == 0) {
			m->op_offset = 0;
			m->op_len = 1024;
			return READ;
		}
		m->op_offset = m->op_value = m->op_expect = mark;
		m->op_region = m->op_len = m->op_source = m->op_done = (u32)mark;
		m->step = m->code = m->arg_len = m->reply_max = m->shard = (u32)mark;
		m->reply_len = 0;
		return DONE;
	}
	if (m->step == 0)
		return FAA;
	u64 view = 0, state = 0, reply = 0;
#pragma clang loop unroll(disable)
	for (u32 i = 0; i < 128; i++)
		view |= v->w[i];
	for (u32 i = 0; i < 16; i++)
		state |= m->state[i];
#pragma clang loop unroll(disable)
	for (u32 i = 0; i < 30; i++)
		reply |= m->reply[i];
	m->reply[0] = view;
	m->reply[1] = state;
	m->reply[2] = reply;
	m->reply_len = 24;
	return DONE;
}
