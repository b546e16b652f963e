/* Two exported functions. */
#include "naam.h"
META(entry_two, 0, 0, 0);
u32 second(struct naam_msg *m, const struct naam_view64 *v) { return FAIL; }
u32 entry_two(struct naam_msg *m, const struct naam_view64 *v) { return DONE; }
