/* A kernel function. */
#include "naam.h"
RAW(kernel_function)
{
	SLOT(0x85, 0x20, 0, 1234); /* refused */
	A("exit");
}
