/* Nine functions deep. */
#include "naam.h"
META(call_depth, 0, 1024, 0);
NOINLINE u64 f0(u64 n) { OPAQUE(n); return n; }
NOINLINE u64 f1(u64 n) { OPAQUE(n); n = f0(n); OPAQUE(n); return n; }
NOINLINE u64 f2(u64 n) { OPAQUE(n); n = f1(n); OPAQUE(n); return n; }
NOINLINE u64 f3(u64 n) { OPAQUE(n); n = f2(n); OPAQUE(n); return n; }
NOINLINE u64 f4(u64 n) { OPAQUE(n); n = f3(n); OPAQUE(n); return n; }
NOINLINE u64 f5(u64 n) { OPAQUE(n); n = f4(n); OPAQUE(n); return n; }
NOINLINE u64 f6(u64 n) { OPAQUE(n); n = f5(n); OPAQUE(n); return n; }
NOINLINE u64 f7(u64 n) { OPAQUE(n); n = f6(n); OPAQUE(n); return n; }
u32 call_depth(struct naam_msg *m, const struct naam_view64 *v)
{
	if (!m || !v)
		return FAIL;
	m->reply[0] = f7(m->args[0]);
	return DONE;
}
