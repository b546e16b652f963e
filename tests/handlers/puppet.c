/* A writing puppet with the large view. */
#include "puppet.h"
PUPPET(puppet, 1, 240, naam_view1k)
