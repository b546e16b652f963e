/* The distance of two pointers. */
#include "naam.h"
RAW(pointer_difference)
{
	A("r3 = r2");
	A("r3 -= r1"); /* refused */
	A("*(u64 *)(r1 + 1280) = r3");
	A("r0 = 0");
	A("exit");
}
