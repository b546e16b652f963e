/* A number takes a pointer in by xor. */
#include "naam.h"
RAW(pointer_into_number)
{
	A("r3 = 0");
	A("r3 ^= r2"); /* refused */
	A("*(u64 *)(r1 + 1280) = r3");
	A("r0 = 0");
	A("exit");
}
