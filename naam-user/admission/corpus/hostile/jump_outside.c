/* A jump out of the function. */
#include "naam.h"
RAW(jump_outside)
{
	A("r0 = 0");
	SLOT(0x05, 0, 100, 0); /* refused */
	A("exit");
}
