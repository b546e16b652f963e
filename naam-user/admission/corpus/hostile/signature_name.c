/* A struct of the right size and another name. */
#include "naam.h"
META(signature_name, 0, 0, 0);
struct packet { u64 words[288]; };
u32 signature_name(struct packet *m, const struct naam_view64 *v) { return DONE; }
