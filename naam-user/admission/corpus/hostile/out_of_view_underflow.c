/* A masked index minus one more. */
#include "naam.h"
RAW(out_of_view_underflow)
{
	A("r3 = *(u64 *)(r1 + 192)");
	A("r3 &= 7");
	A("r3 -= 1");
	A("r3 <<= 3");
	A("r2 += r3");
	A("r3 = *(u64 *)(r2 + 0)"); /* refused */
	A("r0 = 0");
	A("exit");
}
