/* An atomic exchange. */
#include "naam.h"
RAW(atomic_exchange)
{
	A("r3 = 1");
	SLOT(0xdb, 0x31, 192, 0xe1); /* refused */
	A("r0 = 0");
	A("exit");
}
