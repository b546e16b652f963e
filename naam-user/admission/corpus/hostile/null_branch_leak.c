/* A leak where the verifier believes the pointer null. */
#include "naam.h"
RAW(null_branch_leak)
{
	A("r0 = 0");
	A("if r2 != 0 goto 1f");
	A("*(u64 *)(r1 + 1280) = r2"); /* refused */
	A("1: exit");
}
