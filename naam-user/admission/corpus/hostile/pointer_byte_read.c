/* A byte of a saved pointer. */
#include "naam.h"
RAW(pointer_byte_read)
{
	A("*(u64 *)(r10 - 8) = r2");
	A("r3 = *(u8 *)(r10 - 7)"); /* refused */
	A("*(u64 *)(r1 + 1280) = r3");
	A("r0 = 0");
	A("exit");
}
