/* The description names another function. */
#include "naam.h"
META(other, 0, 0, 0);
u32 meta_name(struct naam_msg *m, const struct naam_view64 *v) { return DONE; }
