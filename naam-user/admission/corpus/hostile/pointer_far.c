/* A pointer is moved far away and back. */
#include "naam.h"
RAW(pointer_far)
{
	A("r3 = 0x7fffffff");
	A("r2 += r3"); /* refused */
	A("r2 -= r3");
	A("r3 = *(u8 *)(r2 + 0)");
	A("r0 = 0");
	A("exit");
}
