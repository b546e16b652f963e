/* The bits of a pointer by comparisons. */
#include "naam.h"
META(pointer_search, 0, 1024, 0);
u32 pointer_search(struct naam_msg *m, const struct naam_view64 *v)
{
	if (!m || !v)
		return FAIL;
	u64 guess = 0;
#pragma clang loop unroll(disable)
	for (int bit = 63; bit >= 0; bit--) {
		u64 with = guess | 1ULL << bit;
		OPAQUE(with);
		if ((u64)v >= with) /* refused */
			guess = with;
	}
	m->reply[0] = guess;
	return DONE;
}
