/* A writing puppet with the small view. */
#include "puppet.h"
PUPPET(puppet_small, 1, 240, naam_view64)
