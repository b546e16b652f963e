/* A pointer goes into the reply. */
#include "naam.h"
META(pointer_stored, 0, 1024, 0);
u32 pointer_stored(struct naam_msg *m, const struct naam_view64 *v)
{
	if (!m || !v)
		return FAIL;
	m->reply[0] = (u64)v; /* refused */
	return DONE;
}
