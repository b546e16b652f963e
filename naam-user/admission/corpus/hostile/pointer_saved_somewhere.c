/* A pointer is saved at an unknown place. */
#include "naam.h"
RAW(pointer_saved_somewhere)
{
	A("r3 = *(u64 *)(r1 + 192)");
	A("r3 &= 8");
	A("r4 = r10");
	A("r4 += -16");
	A("r4 += r3");
	A("*(u64 *)(r4 + 0) = r2"); /* refused */
	A("r0 = 0");
	A("exit");
}
