/* A switch with eight arms; clang may not make a jump table of it. */
#include "naam.h"
META(arms, 1, 8, 8);
u32 arms(struct naam_msg *m, const struct naam_view64 *v)
{
	if (!m || !v)
		return FAIL;
	switch (m->args[0]) {
	case 0: m->reply[0] = v->w[3]; m->reply_len = 8; return DONE;
	case 1: m->op_len = 64; return READ;
	case 2: m->op_len = 8; m->op_source = 8; return WRITE;
	case 3: m->op_expect = v->w[0]; m->op_value = v->w[1] + 1; return CAS;
	case 4: m->op_value = 7; return FAA;
	case 5: m->state[0] = m->state[0] * 31 + v->w[5]; m->op_offset = (m->state[0] % 4096) * 8; return READ;
	case 6: m->code = (u32)v->w[6] / ((u32)v->w[7] | 1); return DONE;
	case 7: m->code = __builtin_bswap32((u32)v->w[2]); return DONE;
	}
	return FAIL;
}
