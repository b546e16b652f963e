/* r10 is loaded. */
#include "naam.h"
RAW(frame_pointer_loaded)
{
	SLOT(0x79, 0x1a, 0, 0); /* refused */
	A("r0 = 0");
	A("exit");
}
