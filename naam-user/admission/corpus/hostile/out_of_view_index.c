/* An index that is checked one too late. */
#include "naam.h"
META(out_of_view_index, 0, 1024, 0);
u32 out_of_view_index(struct naam_msg *m, const struct naam_view64 *v)
{
	if (!m || !v)
		return FAIL;
	u64 i = m->args[0];
	OPAQUE(i);
	if (i <= 8) {
		OPAQUE(i);
		m->reply[0] = v->w[i]; /* refused */
	}
	return DONE;
}
