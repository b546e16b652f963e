/* A scan whose first slot is a variable. */
#include "naam.h"
META(bucket_from, 0, 16, 16);
u32 bucket_from(struct naam_msg *m, const struct naam_view64 *v)
{
	if (!m || !v)
		return FAIL;
	u64 i = m->state[1];
#pragma clang loop unroll(disable)
	for (; i < 7; i++) {
		/* Or clang scales the index before it is compared. */
		OPAQUE(i);
		if (v->w[i + 1] >> 48 == m->args[0] >> 48) {
			m->state[1] = i + 1;
			return READ;
		}
	}
	return DONE;
}
