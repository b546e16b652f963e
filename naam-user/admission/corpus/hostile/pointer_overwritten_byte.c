/* A saved pointer whose low byte is overwritten. */
#include "naam.h"
RAW(pointer_overwritten_byte)
{
	A("r4 = 0");
	A("*(u64 *)(r10 - 8) = r2");
	A("*(u8 *)(r10 - 8) = r4");
	A("r3 = *(u32 *)(r10 - 4)"); /* refused */
	A("*(u64 *)(r1 + 1280) = r3");
	A("r0 = 0");
	A("exit");
}
