/* The byte before the message. */
#include "naam.h"
RAW(out_of_message_read)
{
	A("r3 = *(u8 *)(r1 - 1)"); /* refused */
	A("r0 = 0");
	A("exit");
}
