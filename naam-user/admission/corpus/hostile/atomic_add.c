/* An atomic addition. */
#include "naam.h"
RAW(atomic_add)
{
	A("r3 = 1");
	SLOT(0xdb, 0x31, 192, 0); /* refused */
	A("r0 = 0");
	A("exit");
}
