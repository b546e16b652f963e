/* The view is written. */
#include "naam.h"
META(view_written, 0, 1024, 0);
u32 view_written(struct naam_msg *m, const struct naam_view64 *v)
{
	if (!m || !v)
		return FAIL;
	((struct naam_view64 *)v)->w[0] = 1; /* refused */
	return DONE;
}
