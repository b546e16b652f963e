/* A pointer times one. */
#include "naam.h"
RAW(pointer_times_one)
{
	A("r2 *= 1"); /* refused */
	A("*(u64 *)(r1 + 1280) = r2");
	A("r0 = 0");
	A("exit");
}
