/* A load-acquire. */
#include "naam.h"
RAW(atomic_acquire)
{
	SLOT(0xdb, 0x13, 192, 0x100); /* refused */
	A("r0 = 0");
	A("exit");
}
