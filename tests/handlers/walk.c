/* It may write. */
#include "walk.h"
WALK(walk, 1)
