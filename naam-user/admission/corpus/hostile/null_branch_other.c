/* A leak where the message is believed null. */
#include "naam.h"
RAW(null_branch_other)
{
	A("r0 = 0");
	A("if r1 == 0 goto 1f");
	A("exit");
	A("1: *(u64 *)(r2 + 0) = r0"); /* refused */
	A("exit");
}
