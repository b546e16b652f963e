/* A number on one path, a pointer on the other. */
#include "naam.h"
RAW(pointer_or_number)
{
	A("r3 = *(u64 *)(r1 + 192)");
	A("r4 = 0");
	A("if r3 == 0 goto 1f");
	A("r4 = r2");
	A("1: *(u64 *)(r1 + 1280) = r4"); /* refused */
	A("r0 = 0");
	A("exit");
}
