/* A number out of the message is written through. */
#include "naam.h"
RAW(not_a_pointer_loaded)
{
	A("r3 = *(u64 *)(r1 + 192)");
	A("*(u64 *)(r3 + 0) = r1"); /* refused */
	A("r0 = 0");
	A("exit");
}
