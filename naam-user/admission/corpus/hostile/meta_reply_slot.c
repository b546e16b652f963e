/* A writing handler's reply that no slot can cache. */
#include "naam.h"
META(meta_reply_slot, 1, 248, 0);
u32 meta_reply_slot(struct naam_msg *m, const struct naam_view64 *v) { return DONE; }
