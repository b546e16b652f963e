/* A byte-wise parser with state: varints out of the arguments. */
#include "naam.h"
META(parse, 0, 1024, 0);
u32 parse(struct naam_msg *m, const struct naam_view64 *v)
{
	if (!m || !v)
		return FAIL;
	const u8 *bytes = (const u8 *)m->args;
	u64 value = 0;
	u32 shift = 0, out = 0, len = m->arg_len;
#pragma clang loop unroll(disable)
	for (u32 i = 0; i < 96 && i < len; i++) {
		value |= (u64)(bytes[i] & 0x7f) << (shift & 63);
		if (bytes[i] & 0x80) {
			shift += 7;
			if (shift > 63)
				return FAIL;
		} else {
			if (out >= 128)
				return FAIL;
			m->reply[out++] = value;
			value = 0;
			shift = 0;
		}
	}
	m->reply_len = out * 8;
	return DONE;
}
