/* Room for instructions that a test writes itself: `naam_tests::vectors` puts them here. */
#include "naam.h"
RAW(slots)
{
	A(".rept 1200\n r0 = 0x4e41414d\n .endr\n exit");
}
