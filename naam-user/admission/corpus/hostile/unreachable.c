/* Code that nothing reaches. */
#include "naam.h"
RAW(unreachable)
{
	A("r0 = 0");
	A("exit");
	A("r1 = r10"); /* refused */
	A("exit");
}
