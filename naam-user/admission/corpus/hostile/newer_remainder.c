/* A signed remainder. */
#include "naam.h"
RAW(newer_remainder)
{
	A("r3 = 1");
	SLOT(0x97, 3, 1, 2); /* refused */
	A("r0 = 0");
	A("exit");
}
