/* A copy is checked, the original is used; a saved number is checked, the restored one is used. */
#include "naam.h"
RAW(linked)
{
	A("r3 = *(u64 *)(r1 + 192)");
	A("r5 = *(u64 *)(r1 + 200)");
	A("*(u64 *)(r10 - 8) = r5");
	A("r0 = 0");
	A("r4 = r3");
	A("if r4 > 7 goto 1f");
	A("r6 = r2");
	A("r6 += r3");
	A("r0 = *(u8 *)(r6 + 0)");
	A("if r5 > 7 goto 1f");
	A("r5 = *(u64 *)(r10 - 8)");
	A("r2 += r5");
	A("r0 = *(u8 *)(r2 + 0)");
	A("1: exit");
}
