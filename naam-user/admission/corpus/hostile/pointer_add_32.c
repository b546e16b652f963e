/* A 32-bit addition to a pointer. */
#include "naam.h"
RAW(pointer_add_32)
{
	A("w2 += 1"); /* refused */
	A("*(u64 *)(r1 + 1280) = r2");
	A("r0 = 0");
	A("exit");
}
