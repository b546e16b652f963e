/* A map by file descriptor. */
#include "naam.h"
RAW(pseudo_map_load)
{
	SLOT(0x18, 0x13, 0, 3); /* refused */
	SLOT(0, 0, 0, 0);
	A("r0 = 0");
	A("exit");
}
