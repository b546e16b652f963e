/* Register r11. */
#include "naam.h"
RAW(bad_register)
{
	SLOT(0xb7, 0x0b, 0, 0); /* refused */
	A("exit");
}
