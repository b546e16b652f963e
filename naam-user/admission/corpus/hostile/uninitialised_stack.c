/* An unwritten stack slot goes into the reply. */
#include "naam.h"
RAW(uninitialised_stack)
{
	A("r3 = *(u64 *)(r10 - 8)"); /* refused */
	A("*(u64 *)(r1 + 1280) = r3");
	A("r0 = 0");
	A("exit");
}
