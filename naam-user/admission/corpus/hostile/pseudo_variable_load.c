/* A kernel variable by BTF id. */
#include "naam.h"
RAW(pseudo_variable_load)
{
	SLOT(0x18, 0x33, 0, 3); /* refused */
	SLOT(0, 0, 0, 0);
	A("r0 = 0");
	A("exit");
}
