/* A global variable. */
#include "naam.h"
META(data_variable, 0, 1024, 0);
static volatile u64 count = 7;
u32 data_variable(struct naam_msg *m, const struct naam_view64 *v)
{
	if (!m || !v)
		return FAIL;
	m->reply[0] = count++; /* refused */
	return DONE;
}
