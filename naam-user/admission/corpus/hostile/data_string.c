/* A string. */
#include "naam.h"
META(data_string, 0, 1024, 0);
static const volatile char text[16] = "secret";
u32 data_string(struct naam_msg *m, const struct naam_view64 *v)
{
	if (!m || !v)
		return FAIL;
	m->reply[0] = text[m->args[0] & 15]; /* refused */
	return DONE;
}
