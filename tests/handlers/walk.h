/* Adds up words of region 0, a READ each; if it may write and the sum is odd, it then adds to a word of region 1.
 *
 * args[0]   offset of the first word
 * args[1]   how many
 * args[2]   offset of the word to add to
 * args[3]   what to add; 0: nothing
 *
 * reply[0]  the sum
 * reply[1]  the word found, if it has added
 */
#include "naam.h"

#define WALK(name, writes)                                                                        \
META(name, writes, 16, 24);                                                                       \
u32 name(struct naam_msg *m, const struct naam_view64 *v)                                         \
{                                                                                                 \
	if (!m || !v)                                                                             \
		return FAIL;                                                                      \
	u64 at = m->state[0];                                                                     \
	if (m->state[2]) {                                                                        \
		m->reply[1] = m->op_value;                                                        \
	} else {                                                                                  \
		if (at)                                                                           \
			m->state[1] += v->w[0];                                                   \
		if (at < m->args[1]) {                                                            \
			m->state[0] = at + 1;                                                     \
			m->op_region = 0;                                                         \
			m->op_offset = m->args[0] + at * 8;                                       \
			m->op_len = 8;                                                            \
			return READ;                                                              \
		}                                                                                 \
		if (writes && m->args[3] && (m->state[1] & 1)) {                                  \
			m->state[2] = 1;                                                          \
			m->op_region = 1;                                                         \
			m->op_offset = m->args[2];                                                \
			m->op_value = m->args[3];                                                 \
			return FAA;                                                               \
		}                                                                                 \
	}                                                                                         \
	m->reply[0] = m->state[1];                                                                \
	m->reply_len = 16;                                                                        \
	return DONE;                                                                              \
}
