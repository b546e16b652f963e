/* Local calls: nested three deep, each function with a stack frame that its callees must leave alone, with values that
 * live across calls, and a function that is called from two others. */
#include "naam.h"
META(calls, 0, 64, 0);

NOINLINE u64 leaf(u64 a, u64 b, u64 c)
{
	volatile u64 kept[3] = { a, b, c };
	u64 x = (u32)a * 3 + (b ^ c);
	return x + kept[0] + (kept[1] >> 3) - kept[2];
}

NOINLINE u64 middle(u64 a, u64 b)
{
	volatile u64 kept[4] = { a, b, a ^ b, a + b };
	u64 x = leaf(a, b, 7) + leaf(b, a, kept[2]);
	return x ^ kept[0] ^ (kept[1] << 1) ^ kept[2] ^ kept[3];
}

NOINLINE u64 other(u64 a, u64 b, u64 c, u64 d, u64 e)
{
	volatile u64 kept = a - e;
	u64 x = leaf(c, d, e);
	if (b & 1)
		x += middle(d, a);
	return x + kept;
}

u32 calls(struct naam_msg *m, const struct naam_view64 *v)
{
	if (!m || !v)
		return FAIL;
	volatile u64 kept[2] = { m->args[0], m->args[1] };
	u64 a = m->args[2], b = m->args[3], c = m->args[4];
	m->reply[0] = other(a, b, c, kept[0], kept[1]);
	m->reply[1] = middle(a, c);
	m->reply[2] = leaf(b, kept[1], a);
	m->reply[3] = kept[0];
	m->reply[4] = kept[1];
	m->reply[5] = a ^ b ^ c;
	m->reply_len = 48;
	return DONE;
}
