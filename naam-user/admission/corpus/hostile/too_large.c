/* More instructions than the limit. */
#include "naam.h"
RAW(too_large)
{
	A("r0 = 0");
	A(".rept 8192\nr0 += 1\n.endr");
	A("exit");
}
