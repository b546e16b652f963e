/* A load from a packet. */
#include "naam.h"
RAW(packet_load)
{
	SLOT(0x20, 0, 0, 0); /* refused */
	A("exit");
}
