/* Four bytes are written, eight are read. */
#include "naam.h"
RAW(uninitialised_stack_part)
{
	A("r3 = 0");
	A("*(u32 *)(r10 - 8) = r3");
	A("r3 = *(u64 *)(r10 - 8)"); /* refused */
	A("*(u64 *)(r1 + 1280) = r3");
	A("r0 = 0");
	A("exit");
}
