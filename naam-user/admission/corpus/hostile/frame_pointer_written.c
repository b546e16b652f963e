/* r10 is moved. */
#include "naam.h"
RAW(frame_pointer_written)
{
	A("r10 += 8"); /* refused */
	A("r0 = 0");
	A("exit");
}
