/* A copy is checked that is a copy on one path only. */
#include "naam.h"
RAW(out_of_view_unlinked)
{
	A("r3 = *(u64 *)(r1 + 192)");
	A("r5 = *(u64 *)(r1 + 200)");
	A("r0 = 0");
	A("r4 = r3");
	A("if r5 == 0 goto 1f");
	A("r4 = *(u64 *)(r1 + 208)");
	A("1: if r4 > 7 goto 2f");
	A("r2 += r3"); /* refused */
	A("r0 = *(u8 *)(r2 + 0)");
	A("2: exit");
}
