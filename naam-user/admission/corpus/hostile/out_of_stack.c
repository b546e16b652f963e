/* Below the stack. */
#include "naam.h"
RAW(out_of_stack)
{
	A("r3 = 0");
	A("*(u64 *)(r10 - 520) = r3"); /* refused */
	A("r0 = 0");
	A("exit");
}
