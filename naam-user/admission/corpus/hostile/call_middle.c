/* A call into the middle of a function. */
#include "naam.h"
RAW(call_middle)
{
	A("r0 = 0");
	SLOT(0x85, 0x10, 0, -1); /* refused */
	A("exit");
}
