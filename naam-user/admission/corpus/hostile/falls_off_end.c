/* No exit. */
#include "naam.h"
RAW(falls_off_end)
{
	A("r0 = 0");
	A("r1 = 0"); /* refused */
}
