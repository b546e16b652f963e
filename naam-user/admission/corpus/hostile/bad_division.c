/* A division by zero. */
#include "naam.h"
RAW(bad_division)
{
	A("r0 = 1");
	SLOT(0x37, 0, 0, 0); /* refused */
	A("exit");
}
