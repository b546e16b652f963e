/* A zero global variable. */
#include "naam.h"
META(data_zero, 0, 1024, 0);
static volatile u64 count;
u32 data_zero(struct naam_msg *m, const struct naam_view64 *v)
{
	if (!m || !v)
		return FAIL;
	m->reply[0] = count++; /* refused */
	return DONE;
}
