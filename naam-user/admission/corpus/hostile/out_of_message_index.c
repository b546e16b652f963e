/* A mask that is too wide. */
#include "naam.h"
META(out_of_message_index, 0, 1024, 0);
u32 out_of_message_index(struct naam_msg *m, const struct naam_view64 *v)
{
	if (!m || !v)
		return FAIL;
	u64 i = m->args[0] & 255;
	OPAQUE(i);
	m->reply[i & 255] = 1; /* refused */
	return DONE;
}
