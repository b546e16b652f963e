/* One bit of a pointer. */
#include "naam.h"
RAW(pointer_bit)
{
	A("r0 = 0");
	SLOT(0x45, 2, 1, 4096); /* refused */
	A("r0 = 1");
	A("exit");
}
