/* A 64-bit load without its second half. */
#include "naam.h"
RAW(bad_wide)
{
	A("r0 = 0");
	SLOT(0x18, 0, 0, 1); /* refused */
	A("exit");
}
