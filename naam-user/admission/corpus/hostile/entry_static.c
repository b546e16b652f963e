/* The handler is not exported. */
#include "naam.h"
META(entry_static, 0, 0, 0);
static __attribute__((used)) u32 entry_static(struct naam_msg *m, const struct naam_view64 *v) { return DONE; }
