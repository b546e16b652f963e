/* The low half of a pointer goes into the reply. */
#include "naam.h"
RAW(pointer_stored_half)
{
	A("*(u32 *)(r1 + 1280) = r2"); /* refused */
	A("r0 = 0");
	A("exit");
}
