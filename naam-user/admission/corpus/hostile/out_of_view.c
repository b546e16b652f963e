/* The word behind the view. */
#include "naam.h"
META(out_of_view, 0, 1024, 0);
u32 out_of_view(struct naam_msg *m, const struct naam_view64 *v)
{
	if (!m || !v)
		return FAIL;
	m->reply[0] = ((const volatile u64 *)v)[8]; /* refused */
	return DONE;
}
