/* An unconditional byte swap. */
#include "naam.h"
RAW(newer_swap)
{
	A("r3 = 1");
	SLOT(0xd7, 3, 0, 64); /* refused */
	A("r0 = 0");
	A("exit");
}
