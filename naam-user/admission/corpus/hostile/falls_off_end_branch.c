/* A path without exit. */
#include "naam.h"
RAW(falls_off_end_branch)
{
	A("r0 = 0");
	A("if r1 == 0 goto 1f");
	A("exit");
	A("1: r0 = 1"); /* refused */
}
