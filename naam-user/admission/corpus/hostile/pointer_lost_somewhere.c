/* A number over a saved pointer at an unknown place. */
#include "naam.h"
RAW(pointer_lost_somewhere)
{
	A("r5 = 0");
	A("*(u64 *)(r10 - 8) = r2");
	A("*(u64 *)(r10 - 16) = r5");
	A("r3 = *(u64 *)(r1 + 192)");
	A("r3 &= 8");
	A("r4 = r10");
	A("r4 += -16");
	A("r4 += r3");
	A("*(u64 *)(r4 + 0) = r5");
	A("r3 = *(u64 *)(r10 - 8)"); /* refused */
	A("*(u64 *)(r1 + 1280) = r3");
	A("r0 = 0");
	A("exit");
}
