/* The view is returned. */
#include "naam.h"
RAW(pointer_returned)
{
	A("r0 = r2");
	A("exit"); /* refused */
}
