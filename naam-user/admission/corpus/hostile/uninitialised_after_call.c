/* A register that the call destroyed. */
#include "naam.h"
NOINLINE __attribute__((used)) void clobber(void) { asm volatile("r3 = 1" ::: "r3"); }
RAW(uninitialised_after_call)
{
	A("r6 = r1");
	A("call clobber");
	A("*(u64 *)(r6 + 1280) = r3"); /* refused */
	A("r0 = 0");
	A("exit");
}
