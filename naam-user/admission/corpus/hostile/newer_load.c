/* A sign-extending load. */
#include "naam.h"
RAW(newer_load)
{
	SLOT(0x91, 0x13, 192, 0); /* refused */
	A("r0 = 0");
	A("exit");
}
