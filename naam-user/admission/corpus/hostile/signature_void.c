/* No result. */
#include "naam.h"
META(signature_void, 0, 0, 0);
void signature_void(struct naam_msg *m, const struct naam_view64 *v) { m->reply[0] = 1; }
