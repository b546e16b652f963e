/* The high half of a pointer. */
#include "naam.h"
RAW(pointer_shifted)
{
	A("r2 >>= 32"); /* refused */
	A("*(u64 *)(r1 + 1280) = r2");
	A("r0 = 0");
	A("exit");
}
