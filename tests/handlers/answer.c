/* Answers with a number of its build, as its code and in its reply; writes, so that it uses slots. */
#include "naam.h"
#ifndef ANSWER
#define ANSWER 1
#endif
META(answer, 1, 16, 0);
u32 answer(struct naam_msg *m, const struct naam_view64 *v)
{
	if (!m || !v)
		return FAIL;
	if (m->step == 0) {
		m->op_offset = m->args[0];
		m->op_value = 1;
		return FAA;
	}
	m->code = ANSWER;
	m->reply[0] = ANSWER;
	m->reply[1] = m->op_value;
	m->reply_len = 16;
	return DONE;
}
