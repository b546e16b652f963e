/* Local memcpy, memset and memcmp of variable length, as a compiler would call them. */
#include "naam.h"
META(copies, 0, 1024, 0);
NOINLINE void *copy(void *to, const void *from, u64 bytes)
{
	if (!to || !from)
		return to;
#pragma clang loop unroll(disable)
	for (u64 i = 0; i < bytes && i < 1000; i++) {
		u8 byte = ((const u8 *)from)[i];
		OPAQUE(byte);
		((u8 *)to)[i] = byte;
	}
	return to;
}
NOINLINE void *fill(void *to, int with, u64 bytes)
{
#pragma clang loop unroll(disable)
	for (u64 i = 0; i < bytes && i < 64; i++) {
		OPAQUE(with);
		((u8 *)to)[i] = with;
	}
	return to;
}
NOINLINE int compare(const void *a, const void *b, u64 bytes)
{
#pragma clang loop unroll(disable)
	for (u64 i = 0; i < bytes && i < 64; i++) {
		int d = ((const u8 *)a)[i] - ((const u8 *)b)[i];
		if (d)
			return d;
	}
	return 0;
}
u32 copies(struct naam_msg *m, const struct naam_view1k *v)
{
	u8 key[64];
	if (!m || !v)
		return FAIL;
	fill(key, 0x5a, 64);
	copy(key, m->args, m->arg_len & 63);
	if (compare(key, v->w, 64) == 0)
		copy(m->reply, v->w, m->args[10]);
	m->reply_len = 1000;
	return DONE;
}
