/* Functions that are reached by relocation: hidden, in another section, or the compiler's own. */
#include "naam.h"
META(sections, 0, 64, 0);
void *memcpy(void *to, const void *from, unsigned long bytes)
{
#pragma clang loop unroll(disable)
	for (u64 i = 0; i < bytes && i < 64; i++) {
		u8 byte = ((const u8 *)from)[i];
		OPAQUE(byte);
		((u8 *)to)[i] = byte;
	}
	return to;
}
__attribute__((noinline, visibility("hidden"))) u64 hidden(u64 n)
{
	OPAQUE(n);
	return n * 3;
}
__attribute__((section("text.aside"))) NOINLINE u64 aside(u64 n)
{
	OPAQUE(n);
	return hidden(n) + 1;
}
__attribute__((section("text.aside"))) NOINLINE u64 further(u64 n)
{
	OPAQUE(n);
	return aside(n) ^ 5;
}
u32 sections(struct naam_msg *m, const struct naam_view64 *v)
{
	if (!m || !v)
		return FAIL;
	memcpy(m->reply, v->w, m->args[0] & 63);
	m->reply[7] = further(m->args[1]);
	m->reply_len = 64;
	return DONE;
}
