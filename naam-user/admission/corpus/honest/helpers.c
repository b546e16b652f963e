/* Local functions that take and return pointers, out-parameters on the caller's stack. */
#include "naam.h"
META(helpers, 0, 64, 0);
struct pair { u64 found, at; };
NOINLINE void locate(const struct naam_view64 *v, u64 want, struct pair *out)
{
	out->found = 0;
	out->at = 0;
	if (!v)
		return;
#pragma clang loop unroll(disable)
	for (u32 i = 0; i < 8; i++)
		if (v->w[i] == want) {
			out->found = 1;
			out->at = i;
			return;
		}
}
NOINLINE u64 *slot(struct naam_msg *m, u32 n)
{
	OPAQUE(n);
	return &m->reply[n & 7];
}
u32 helpers(struct naam_msg *m, const struct naam_view64 *v)
{
	struct pair pair;
	if (!m || !v)
		return FAIL;
	locate(v, m->args[0], &pair);
	*slot(m, 3) = pair.found;
	*slot(m, m->args[1]) = v->w[pair.at & 7];
	m->reply_len = 64;
	return DONE;
}
