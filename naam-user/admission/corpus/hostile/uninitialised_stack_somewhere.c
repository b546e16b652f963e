/* An unknown place of the stack, one of two written. */
#include "naam.h"
RAW(uninitialised_stack_somewhere)
{
	A("r3 = *(u64 *)(r1 + 192)");
	A("*(u64 *)(r10 - 8) = r3");
	A("r3 &= 8");
	A("r4 = r10");
	A("r4 += -16");
	A("r4 += r3");
	A("r3 = *(u64 *)(r4 + 0)"); /* refused */
	A("*(u64 *)(r1 + 1280) = r3");
	A("r0 = 0");
	A("exit");
}
