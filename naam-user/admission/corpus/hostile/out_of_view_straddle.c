/* The last bytes of the view and the first behind. */
#include "naam.h"
RAW(out_of_view_straddle)
{
	A("r3 = *(u64 *)(r2 + 57)"); /* refused */
	A("r0 = 0");
	A("exit");
}
