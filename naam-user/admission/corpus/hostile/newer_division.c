/* A signed division. */
#include "naam.h"
RAW(newer_division)
{
	A("r3 = 1");
	SLOT(0x37, 3, 1, 2); /* refused */
	A("r0 = 0");
	A("exit");
}
