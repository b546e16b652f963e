/* A pointer is saved at an odd place. */
#include "naam.h"
RAW(pointer_saved_odd)
{
	A("*(u64 *)(r10 - 12) = r2"); /* refused */
	A("r0 = 0");
	A("exit");
}
