/* A number where the message should be. */
#include "naam.h"
META(signature_pointer, 0, 0, 0);
u32 signature_pointer(u64 m, const struct naam_view64 *v) { return DONE; }
