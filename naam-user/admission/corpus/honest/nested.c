/* Nested loops: a 16 x 8 matrix, and a bubble pass. */
#include "naam.h"
META(nested, 0, 128, 0);
u32 nested(struct naam_msg *m, const struct naam_view1k *v)
{
	if (!m || !v)
		return FAIL;
#pragma clang loop unroll(disable)
	for (u32 row = 0; row < 16; row++) {
		u64 sum = 0, most = 0;
#pragma clang loop unroll(disable)
		for (u32 column = 0; column < 8; column++) {
			u64 w = v->w[row * 8 + column];
			sum += w;
			if (w > most)
				most = w;
		}
		m->reply[row] = sum ^ most;
	}
#pragma clang loop unroll(disable)
	for (u32 pass = 0; pass < 15; pass++)
#pragma clang loop unroll(disable)
		for (u32 i = 0; i + 1 < 16 - pass; i++)
			if (m->reply[i] > m->reply[i + 1]) {
				u64 w = m->reply[i];
				m->reply[i] = m->reply[i + 1];
				m->reply[i + 1] = w;
			}
	m->reply_len = 128;
	return DONE;
}
