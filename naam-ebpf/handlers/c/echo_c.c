// SPDX-License-Identifier: MIT OR Apache-2.0
// echo in C: replies with its arguments, as the Rust handler `echo` does.

#include "naam.h"

NAAM_HANDLER(echo_c, naam_view64, NAAM_READS, NAAM_REPLY_BYTES, 0)
{
	(void)v;
	naam_u32 len = m->arg_len;
	if (len > m->reply_max)
		len = m->reply_max;
	if (len > NAAM_REPLY_BYTES)
		len = NAAM_REPLY_BYTES;
	for (naam_u32 i = 0; i < NAAM_REPLY_BYTES / 8 && i * 8 < len; i++)
		m->reply[i] = naam_opaque(m->args[i]);
	return naam_done(m, 0, len);
}
