/* A handler on strings: it performs the ops that its arguments list, in their order.
 *
 * args[0]      how many ops; above PUPPET_OPS: for ever, from the first again
 * args[1]      reply_len to claim at the end
 * args[2 + 5i] op i: step | region << 32, offset, len | source << 32, expect, value
 *
 * reply[0]     bit i: op_done after op i
 * reply[1 + i] after op i: the view's first word (READ) or op_value (else), as far as it fits
 *
 * The step code of op i is returned as it is, so that wrong codes can be tried, too.
 */
#include "naam.h"

#define PUPPET_OPS 27

#define PUPPET(name, writes, reply_bytes, view)                                                   \
	META(name, writes, reply_bytes, 16);                                                      \
	u32 name(struct naam_msg *m, const struct view *v)                                        \
	{                                                                                         \
		if (!m || !v)                                                                     \
			return FAIL;                                                              \
		u64 count = m->args[0], now = m->state[0], last = m->state[1];                    \
		if (now) {                                                                        \
			u64 before = now - 1;                                                     \
			m->reply[0] |= (u64)m->op_done << (before & 63);                          \
			OPAQUE(before);                                                           \
			if (before < reply_bytes / 8 - 1)                                         \
				m->reply[1 + before] = last == READ ? v->w[0] : m->op_value;      \
		}                                                                                 \
		if (now == count) {                                                               \
			m->code = (u32)now;                                                       \
			m->reply_len = (u32)m->args[1];                                           \
			return DONE;                                                              \
		}                                                                                 \
		u64 op = now;                                                                     \
		if (count > PUPPET_OPS)                                                           \
			op = 0;                                                                   \
		OPAQUE(op);                                                                       \
		if (op >= PUPPET_OPS)                                                             \
			return FAIL;                                                              \
		const u64 *order = m->args + 2 + op * 5;                                          \
		m->op_region = (u32)(order[0] >> 32);                                             \
		m->op_offset = order[1];                                                          \
		m->op_len = (u32)order[2];                                                        \
		m->op_source = (u32)(order[2] >> 32);                                             \
		m->op_expect = order[3];                                                          \
		m->op_value = order[4];                                                           \
		m->state[0] = now + 1;                                                            \
		m->state[1] = (u32)order[0];                                                      \
		return (u32)order[0];                                                             \
	}
