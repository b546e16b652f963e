/* A jump to itself. */
#include "naam.h"
RAW(endless_jump)
{
	A("r0 = 0");
	A("1: goto 1b"); /* refused */
}
