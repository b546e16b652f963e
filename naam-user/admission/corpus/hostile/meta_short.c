/* A description that is too short. */
#include "naam.h"
__attribute__((section(".naam"), used)) static const u64 meta = 0x314c44484d41414eULL;
u32 meta_short(struct naam_msg *m, const struct naam_view64 *v) { return DONE; }
