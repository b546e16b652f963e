/* A saved pointer, overwritten in part, is read as a number. */
#include "naam.h"
RAW(pointer_overwritten)
{
	A("r4 = 0");
	A("*(u64 *)(r10 - 8) = r2");
	A("*(u32 *)(r10 - 8) = r4");
	A("r3 = *(u64 *)(r10 - 8)"); /* refused */
	A("*(u64 *)(r1 + 1280) = r3");
	A("r0 = 0");
	A("exit");
}
