/* A constant table. */
#include "naam.h"
META(data_table, 0, 1024, 0);
static const volatile u64 table[8] = { 1, 5, 9, 11, 200, 3, 5, 7 };
u32 data_table(struct naam_msg *m, const struct naam_view64 *v)
{
	if (!m || !v)
		return FAIL;
	m->reply[0] = table[m->args[0] & 7]; /* refused */
	return DONE;
}
