/* Written on one path only. */
#include "naam.h"
RAW(uninitialised_stack_path)
{
	A("r3 = *(u64 *)(r1 + 192)");
	A("if r3 == 0 goto 1f");
	A("*(u64 *)(r10 - 8) = r3");
	A("1: r3 = *(u64 *)(r10 - 8)"); /* refused */
	A("*(u64 *)(r1 + 1280) = r3");
	A("r0 = 0");
	A("exit");
}
