/* A pointer is added to a pointer and read through. */
#include "naam.h"
RAW(pointer_as_offset)
{
	A("r3 = r1");
	A("r3 += r2"); /* refused */
	A("r0 = *(u64 *)(r3 + 0)");
	A("exit");
}
