/* A pointer or zero. */
#include "naam.h"
RAW(pointer_or_zero)
{
	A("r2 |= 0"); /* refused */
	A("*(u64 *)(r1 + 1280) = r2");
	A("r0 = 0");
	A("exit");
}
