/* The bytes of a pointer are swapped. */
#include "naam.h"
RAW(pointer_swapped)
{
	A("r2 = be64 r2"); /* refused */
	A("*(u64 *)(r1 + 1280) = r2");
	A("r0 = 0");
	A("exit");
}
