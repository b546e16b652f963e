/* One side of a litmus test (tests/src/litmus.rs): meets the other side at a gate, then performs the same orders on one
 * pair of words after another.
 *
 * args[0]       offset of the gate, a word that each side adds one to
 * args[1]       what the gate is when both have come
 * args[2]       how often the side that comes first looks at the gate, at most
 * args[3]       turns of a loop between two looks
 * args[4]       turns of it that the other side waits before it goes on
 * args[5]       pairs
 * args[6]       from a pair to the next
 * args[7]       how many orders
 * args[8 + 5i]  order i, as a puppet takes it (puppet.h), its offset that in the first pair
 *
 * reply[i]      after op i: the view's first word (READ) or op_value (else)
 */
#include "naam.h"
META(litmus, 1, 240, 48);

#define TURNS_MAX 512
#define ORDERS_MAX 4
#define REPLY_WORDS 30

static __attribute__((always_inline)) void spend(u64 turns)
{
#pragma clang loop unroll(disable)
	for (u32 i = 0; i < TURNS_MAX; i++) {
		if (i >= turns)
			break;
		OPAQUE(turns);
	}
}

u32 litmus(struct naam_msg *m, const struct naam_view1k *v)
{
	if (!m || !v)
		return FAIL;
	u64 *looks = &m->state[0], *is_first = &m->state[1], *last = &m->state[2];
	u64 pair = m->state[3], order = m->state[4], done = m->state[5];
	if (m->step == 0) {
		m->op_offset = m->args[0];
		m->op_value = 1;
		return FAA;
	}
	if (!*last) {
		if (m->step == 1) {
			*is_first = m->op_value + 1 < m->args[1];
			*looks = m->args[2];
		}
		if (*is_first && *looks && (m->step == 1 || v->w[0] < m->args[1])) {
			spend(m->args[3]);
			(*looks)--;
			m->op_offset = m->args[0];
			m->op_len = 8;
			return READ;
		}
		if (!*is_first)
			spend(m->args[4]);
	} else {
		u64 at = done;
		OPAQUE(at);
		if (at < REPLY_WORDS)
			m->reply[at] = *last == READ ? v->w[0] : m->op_value;
		done++;
		order++;
		if (order == m->args[7]) {
			order = 0;
			pair++;
		}
	}
	m->state[3] = pair;
	m->state[4] = order;
	m->state[5] = done;
	if (pair == m->args[5]) {
		m->reply_len = (u32)done * 8;
		return DONE;
	}
	OPAQUE(order);
	if (order >= ORDERS_MAX)
		return FAIL;
	const u64 *words = m->args + 8 + order * 5;
	*last = (u32)words[0];
	m->op_region = (u32)(words[0] >> 32);
	m->op_offset = words[1] + pair * m->args[6];
	m->op_len = (u32)words[2];
	m->op_source = (u32)(words[2] >> 32);
	m->op_expect = words[3];
	m->op_value = words[4];
	return (u32)words[0];
}
