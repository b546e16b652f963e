/* Signed compares of 32-bit and 64-bit numbers, bytes and half words. */
#include "naam.h"
META(signed_index, 0, 64, 0);
u32 signed_index(struct naam_msg *m, const struct naam_view64 *v)
{
	if (!m || !v)
		return FAIL;
	s32 i = (s32)m->args[0];
	s64 j = (s64)m->args[1];
	OPAQUE(i);
	OPAQUE(j);
	if (i >= 0 && i < 8)
		m->reply[i] = v->w[7 - i];
	if (j > -9 && j < 0)
		m->reply[8 + j] = v->w[-1 - j];
	u16 k = ((const u16 *)m->args)[9];
	if (k < 62) {
		u32 w = 0;
		__builtin_memcpy(&w, (const u8 *)v + k, 2);
		m->code = w;
	}
	return DONE;
}
