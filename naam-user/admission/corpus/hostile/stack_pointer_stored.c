/* The address of the stack goes into the reply. */
#include "naam.h"
RAW(stack_pointer_stored)
{
	A("*(u64 *)(r1 + 1280) = r10"); /* refused */
	A("r0 = 0");
	A("exit");
}
