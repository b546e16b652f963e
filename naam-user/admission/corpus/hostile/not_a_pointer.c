/* A number is read through. */
#include "naam.h"
RAW(not_a_pointer)
{
	A("r3 = 0xffff888000000000 ll");
	A("r4 = *(u64 *)(r3 + 0)"); /* refused */
	A("r0 = 0");
	A("exit");
}
