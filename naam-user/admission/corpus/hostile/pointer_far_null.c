/* Whether a pointer is some low address, by a comparison with null from afar. */
#include "naam.h"
RAW(pointer_far_null)
{
	A("r0 = 0");
	A("r2 += -4194304");
	A("if r2 == 0 goto 1f"); /* refused */
	A("r0 = 1");
	A("1: exit");
}
