/* A kernel helper. */
#include "naam.h"
RAW(helper_call)
{
	A("call 5"); /* refused */
	A("exit");
}
