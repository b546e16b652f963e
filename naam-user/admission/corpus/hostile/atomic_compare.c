/* A compare and swap on the stack. */
#include "naam.h"
RAW(atomic_compare)
{
	A("r0 = 1");
	A("r3 = 1");
	A("*(u64 *)(r10 - 8) = r3");
	SLOT(0xdb, 0x3a, -8, 0xf1); /* refused */
	A("r0 = 0");
	A("exit");
}
