/* A function of another object. */
#include "naam.h"
META(undefined_symbol, 0, 1024, 0);
u64 elsewhere(u64 n);
u32 undefined_symbol(struct naam_msg *m, const struct naam_view64 *v)
{
	if (!m || !v)
		return FAIL;
	m->reply[0] = elsewhere(m->args[0]); /* refused */
	return DONE;
}
