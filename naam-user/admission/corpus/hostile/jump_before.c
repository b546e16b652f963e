/* A jump in front of the function. */
#include "naam.h"
RAW(jump_before)
{
	A("r0 = 0");
	SLOT(0x15, 0, -10, 0); /* refused */
	A("exit");
}
