/* Half of a saved pointer. */
#include "naam.h"
RAW(pointer_half_read)
{
	A("*(u64 *)(r10 - 8) = r2");
	A("r3 = *(u32 *)(r10 - 8)"); /* refused */
	A("*(u64 *)(r1 + 1280) = r3");
	A("r0 = 0");
	A("exit");
}
