/* A load from a packet by register. */
#include "naam.h"
RAW(packet_load_indirect)
{
	SLOT(0x40, 0x10, 0, 0); /* refused */
	A("exit");
}
