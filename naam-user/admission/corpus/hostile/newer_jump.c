/* A long jump. */
#include "naam.h"
RAW(newer_jump)
{
	A("r0 = 0");
	SLOT(0x06, 0, 0, 0); /* refused */
	A("exit");
}
