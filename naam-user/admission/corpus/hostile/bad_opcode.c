/* No instruction at all. */
#include "naam.h"
RAW(bad_opcode)
{
	SLOT(0xff, 0, 0, 0); /* refused */
	A("exit");
}
