/* An unchecked index is added. */
#include "naam.h"
RAW(pointer_unbounded)
{
	A("r3 = *(u64 *)(r1 + 192)");
	A("r2 += r3"); /* refused */
	A("r3 = *(u8 *)(r2 + 0)");
	A("r0 = 0");
	A("exit");
}
