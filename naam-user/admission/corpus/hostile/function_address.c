/* The address of a function. */
#include "naam.h"
META(function_address, 0, 1024, 0);
NOINLINE __attribute__((used)) u64 other(void) { return 1; }
u32 function_address(struct naam_msg *m, const struct naam_view64 *v)
{
	if (!m || !v)
		return FAIL;
	asm volatile("%0 = other ll" : "=r"(m->reply[0])); /* refused */
	return DONE;
}
