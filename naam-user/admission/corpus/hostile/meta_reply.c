/* A reply that is too long. */
#include "naam.h"
META(meta_reply, 0, 1032, 0);
u32 meta_reply(struct naam_msg *m, const struct naam_view64 *v) { return DONE; }
