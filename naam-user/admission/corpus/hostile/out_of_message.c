/* The word behind the message. */
#include "naam.h"
RAW(out_of_message)
{
	A("r3 = 0");
	A("*(u64 *)(r1 + 2304) = r3"); /* refused */
	A("r0 = 0");
	A("exit");
}
