/* A pointer goes into the state that travels. */
#include "naam.h"
META(pointer_stored_state, 0, 1024, 0);
u32 pointer_stored_state(struct naam_msg *m, const struct naam_view64 *v)
{
	if (!m || !v)
		return FAIL;
	m->state[0] = (u64)m; /* refused */
	return READ;
}
