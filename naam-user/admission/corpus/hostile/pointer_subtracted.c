/* A number minus a pointer. */
#include "naam.h"
RAW(pointer_subtracted)
{
	A("r3 = 0");
	A("r3 -= r2"); /* refused */
	A("*(u64 *)(r1 + 1280) = r3");
	A("r0 = 0");
	A("exit");
}
