/* More live values than registers: pointers and bounded numbers go to the stack and come back. */
#include "naam.h"
META(spills, 0, 128, 0);
NOINLINE u64 mix(u64 a, u64 b, u64 c, u64 d, u64 e)
{
	OPAQUE(a);
	return (a ^ b) * 31 + (c ^ d) * 17 + e;
}
u32 spills(struct naam_msg *m, const struct naam_view64 *v)
{
	if (!m || !v)
		return FAIL;
	u64 a = m->args[0] & 7, b = m->args[1] & 7, c = m->args[2] & 7, d = m->args[3] & 7;
	u64 x = mix(v->w[a], v->w[b], v->w[c], v->w[d], 1);
	u64 y = mix(v->w[d], v->w[c], v->w[b], v->w[a], x);
	u64 z = mix(v->w[a], x, v->w[c], y, v->w[d]);
	m->reply[a] = x;
	m->reply[b] = y;
	m->reply[c] = z;
	m->reply[d] = mix(x, y, z, v->w[b], v->w[a]);
	m->reply_len = 64;
	return DONE;
}
