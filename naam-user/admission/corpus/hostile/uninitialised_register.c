/* An unwritten register goes into the reply. */
#include "naam.h"
RAW(uninitialised_register)
{
	A("*(u64 *)(r1 + 1280) = r7"); /* refused */
	A("r0 = 0");
	A("exit");
}
