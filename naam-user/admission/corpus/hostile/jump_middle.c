/* A jump into the middle of a 64-bit load. */
#include "naam.h"
RAW(jump_middle)
{
	A("r0 = 0");
	SLOT(0x15, 0, 1, 0); /* refused */
	A("r3 = 0x9500000000 ll");
	A("exit");
}
