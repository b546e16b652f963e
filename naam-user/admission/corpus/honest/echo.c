#include "naam.h"
META(echo, 0, 1024, 0);
u32 echo(struct naam_msg *m, const struct naam_view64 *v)
{
	if (!m || !v)
		return FAIL;
	m->reply[0] = m->args[0];
	m->reply_len = 8;
	return DONE;
}
