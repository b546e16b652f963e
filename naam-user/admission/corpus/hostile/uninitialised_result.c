/* No step code. */
#include "naam.h"
RAW(uninitialised_result)
{
	A("exit"); /* refused */
}
