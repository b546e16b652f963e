/* The sign of a pointer. */
#include "naam.h"
RAW(pointer_sign)
{
	A("r0 = 0");
	A("if r2 s> 0 goto 1f"); /* refused */
	A("r0 = 1");
	A("1: exit");
}
