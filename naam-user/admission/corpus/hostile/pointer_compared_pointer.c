/* Two pointers are compared. */
#include "naam.h"
RAW(pointer_compared_pointer)
{
	A("r0 = 0");
	A("if r1 > r2 goto 1f"); /* refused */
	A("r0 = 1");
	A("1: exit");
}
