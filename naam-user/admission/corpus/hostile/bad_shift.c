/* A shift by 64. */
#include "naam.h"
RAW(bad_shift)
{
	A("r0 = 1");
	SLOT(0x67, 0, 0, 64); /* refused */
	A("exit");
}
