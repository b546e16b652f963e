/* The low half of a pointer by a 32-bit move. */
#include "naam.h"
RAW(pointer_low_half)
{
	A("w3 = w2"); /* refused */
	A("*(u64 *)(r1 + 1280) = r3");
	A("r0 = 0");
	A("exit");
}
