/* A null pointer is taken for the number zero. */
#include "naam.h"
RAW(null_branch_number)
{
	A("r0 = 0");
	A("if r2 != 0 goto 1f");
	A("r2 <<= 3"); /* refused */
	A("*(u64 *)(r1 + 1280) = r2");
	A("1: exit");
}
