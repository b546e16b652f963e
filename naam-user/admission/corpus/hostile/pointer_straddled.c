/* A read across a number and a saved pointer. */
#include "naam.h"
RAW(pointer_straddled)
{
	A("r4 = 0");
	A("*(u64 *)(r10 - 16) = r4");
	A("*(u64 *)(r10 - 8) = r2");
	A("r3 = *(u64 *)(r10 - 12)"); /* refused */
	A("*(u64 *)(r1 + 1280) = r3");
	A("r0 = 0");
	A("exit");
}
