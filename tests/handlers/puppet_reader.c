/* A puppet that calls itself read-only, whatever its strings say. */
#include "puppet.h"
PUPPET(puppet_reader, 0, 1024, naam_view1k)
