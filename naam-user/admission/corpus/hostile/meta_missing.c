/* No description. */
#include "naam.h"
u32 meta_missing(struct naam_msg *m, const struct naam_view64 *v) { return DONE; }
