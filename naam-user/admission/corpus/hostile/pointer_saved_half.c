/* Half of a pointer is saved. */
#include "naam.h"
RAW(pointer_saved_half)
{
	A("*(u32 *)(r10 - 8) = r2"); /* refused */
	A("r0 = 0");
	A("exit");
}
