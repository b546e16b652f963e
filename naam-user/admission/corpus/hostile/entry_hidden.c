/* The handler is hidden. */
#include "naam.h"
META(entry_hidden, 0, 0, 0);
__attribute__((visibility("hidden"))) u32 entry_hidden(struct naam_msg *m, const struct naam_view64 *v) { return DONE; }
