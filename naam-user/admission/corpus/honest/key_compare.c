/* Keys of up to 64 bytes, word by word, and a stored key whose length is in the view. */
#include "naam.h"
META(key_compare, 0, 8, 0);
u32 key_compare(struct naam_msg *m, const struct naam_view1k *v)
{
	if (!m || !v)
		return FAIL;
	u64 words = v->w[0] & 0xff;
	if (words > 8 || words != m->args[0])
		return DONE;
	for (u64 i = 0; i < 8; i++) {
		if (i >= words)
			break;
		if (v->w[1 + i] != m->args[1 + i]) {
			m->code = 1;
			return DONE;
		}
	}
	m->reply[0] = v->w[9];
	m->reply_len = 8;
	return DONE;
}
