/* A sign-extending move. */
#include "naam.h"
RAW(newer_move)
{
	A("r3 = 1");
	SLOT(0xbf, 0x33, 8, 0); /* refused */
	A("r0 = 0");
	A("exit");
}
