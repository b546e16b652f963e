/* Whether the low half of a pointer is zero. */
#include "naam.h"
RAW(pointer_half_null)
{
	A("r0 = 0");
	A("if w2 == 0 goto 1f"); /* refused */
	A("r0 = 1");
	A("1: exit");
}
