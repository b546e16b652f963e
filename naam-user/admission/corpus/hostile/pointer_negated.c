/* A pointer is negated. */
#include "naam.h"
RAW(pointer_negated)
{
	A("r2 = -r2"); /* refused */
	A("*(u64 *)(r1 + 1280) = r2");
	A("r0 = 0");
	A("exit");
}
