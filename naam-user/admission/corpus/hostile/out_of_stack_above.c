/* Above the own frame. */
#include "naam.h"
RAW(out_of_stack_above)
{
	A("r3 = 0");
	A("*(u64 *)(r10 + 0) = r3"); /* refused */
	A("r0 = 0");
	A("exit");
}
