/* The copy was changed before it was checked. */
#include "naam.h"
RAW(out_of_view_other_copy)
{
	A("r3 = *(u64 *)(r1 + 192)");
	A("r4 = r3");
	A("r4 &= 255");
	A("r0 = 0");
	A("if r4 > 7 goto 1f");
	A("r2 += r3"); /* refused */
	A("r3 = *(u8 *)(r2 + 0)");
	A("1: exit");
}
