/* Adds one, then takes as long as admission lets a message; replies with args[1] and the word found. */
#include "naam.h"
META(slow, 1, 16, 16);
u32 slow(struct naam_msg *m, const struct naam_view64 *v)
{
	if (!m || !v)
		return FAIL;
	if (m->step == 0) {
		m->op_offset = m->args[0];
		m->op_value = 1;
		return FAA;
	}
	if (m->step == 1)
		m->state[0] = m->op_value;
	u64 sum = m->state[1];
#pragma clang loop unroll(disable)
	for (u32 i = 0; i < 2000; i++) {
		sum = sum * 31 + i;
		OPAQUE(sum);
	}
	m->state[1] = sum;
	if (m->step < 31) {
		m->op_offset = 0;
		m->op_len = 64;
		return READ;
	}
	m->reply[0] = m->args[1];
	m->reply[1] = m->state[0];
	m->reply_len = 16;
	return DONE;
}
