/* An index that is checked as a signed number only. */
#include "naam.h"
RAW(out_of_view_signed)
{
	A("r3 = *(u64 *)(r1 + 192)");
	A("r0 = 0");
	A("if r3 s> 7 goto 1f");
	A("if r3 s< -100 goto 1f");
	A("r3 <<= 3");
	A("r2 += r3");
	A("r3 = *(u64 *)(r2 + 0)"); /* refused */
	A("1: exit");
}
