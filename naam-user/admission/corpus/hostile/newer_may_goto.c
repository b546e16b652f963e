/* A may_goto. */
#include "naam.h"
RAW(newer_may_goto)
{
	A("r0 = 0");
	SLOT(0xe5, 0, 0, 0); /* refused */
	A("exit");
}
