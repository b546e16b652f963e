/* A call out of the object. */
#include "naam.h"
RAW(call_outside)
{
	SLOT(0x85, 0x10, 0, 1000); /* refused */
	A("exit");
}
