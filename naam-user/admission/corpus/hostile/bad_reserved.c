/* A reserved field is set. */
#include "naam.h"
RAW(bad_reserved)
{
	SLOT(0xb7, 0x30, 0, 0); /* refused */
	A("exit");
}
