/* A pointer is compared with a number. */
#include "naam.h"
RAW(pointer_compared_number)
{
	A("r3 = 0xffff888000000000 ll");
	A("if r2 == r3 goto 1f"); /* refused */
	A("r0 = 0");
	A("exit");
	A("1: r0 = 1");
	A("exit");
}
