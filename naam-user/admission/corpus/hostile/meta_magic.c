/* Another magic. */
#include "naam.h"
__attribute__((section(".naam"), used)) static const struct naam_meta meta = { 0x324c44484d41414eULL, 0, 0, 0, 0, "meta_magic" };
u32 meta_magic(struct naam_msg *m, const struct naam_view64 *v) { return DONE; }
