/* Every path makes another number, and an address depends on it. */
#include "naam.h"
META(too_complex, 0, 1024, 0);
#define BIT(n) if (m->args[n] & 1) sum = sum * 3 + n;
u32 too_complex(struct naam_msg *m, const struct naam_view64 *v)
{
	if (!m || !v)
		return FAIL;
	volatile u64 sum = 1;
	BIT(0) BIT(1) BIT(2) BIT(3) BIT(4) BIT(5) BIT(6) BIT(7) BIT(8) BIT(9)
	BIT(10) BIT(11) BIT(12) BIT(13) BIT(14) BIT(15) BIT(16) BIT(17) BIT(18) BIT(19)
	m->args[sum % 251] = 1;
	return DONE;
}
