/* A large view is read where a small one is given. */
#include "naam.h"
RAW(out_of_view_small)
{
	A("r3 = *(u64 *)(r2 + 512)"); /* refused */
	A("r0 = 0");
	A("exit");
}
