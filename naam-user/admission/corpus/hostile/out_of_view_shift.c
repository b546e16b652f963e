/* A shift by an unchecked amount. */
#include "naam.h"
RAW(out_of_view_shift)
{
	A("r3 = *(u64 *)(r1 + 192)");
	A("r4 = 1");
	A("r4 <<= r3");
	A("r2 += r4"); /* refused */
	A("r3 = *(u8 *)(r2 + 0)");
	A("r0 = 0");
	A("exit");
}
