/* A map. */
#include "naam.h"
META(map_reference, 0, 1024, 0);
__attribute__((section(".maps"), used)) static struct { int (*type)[2]; } counters;
u32 map_reference(struct naam_msg *m, const struct naam_view64 *v)
{
	if (!m || !v)
		return FAIL;
	asm volatile("%0 = counters ll" : "=r"(m->reply[0])); /* refused */
	return DONE;
}
