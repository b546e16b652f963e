/* A remainder by what may be zero is the number itself. */
#include "naam.h"
RAW(out_of_view_mod_zero)
{
	A("r3 = *(u64 *)(r1 + 192)");
	A("r4 = *(u64 *)(r1 + 200)");
	A("r4 &= 7");
	SLOT(0x9f, 0x43, 0, 0); /* r3 %= r4 */
	A("r2 += r3"); /* refused */
	A("r3 = *(u8 *)(r2 + 0)");
	A("r0 = 0");
	A("exit");
}
