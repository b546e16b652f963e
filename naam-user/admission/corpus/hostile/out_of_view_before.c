/* The bytes before the view. */
#include "naam.h"
RAW(out_of_view_before)
{
	A("r3 = *(u64 *)(r2 - 8)"); /* refused */
	A("r0 = 0");
	A("exit");
}
