/* A pointer is hidden by xor. */
#include "naam.h"
RAW(pointer_xor)
{
	A("r3 = 0x5a5a");
	A("r2 ^= r3"); /* refused */
	A("*(u64 *)(r1 + 1280) = r2");
	A("r0 = 0");
	A("exit");
}
