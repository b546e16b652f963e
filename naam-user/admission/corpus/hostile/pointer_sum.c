/* The sum of two pointers. */
#include "naam.h"
RAW(pointer_sum)
{
	A("r2 += r1"); /* refused */
	A("*(u64 *)(r1 + 1280) = r2");
	A("r0 = 0");
	A("exit");
}
