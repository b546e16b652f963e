/* An index of which the low half is checked. */
#include "naam.h"
RAW(out_of_view_half_checked)
{
	A("r3 = *(u64 *)(r1 + 192)");
	A("r0 = 0");
	A("if w3 > 7 goto 1f");
	A("r2 += r3"); /* refused */
	A("r3 = *(u8 *)(r2 + 0)");
	A("1: exit");
}
