/* A call through a register. */
#include "naam.h"
RAW(indirect_call)
{
	SLOT(0x8d, 0, 0, 1); /* refused */
	A("exit");
}
