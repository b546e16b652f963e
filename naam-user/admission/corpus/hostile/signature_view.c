/* A view of another size. */
#include "naam.h"
META(signature_view, 0, 0, 0);
struct NaamView64 { u64 words[64]; };
u32 signature_view(struct naam_msg *m, const struct NaamView64 *v) { return DONE; }
