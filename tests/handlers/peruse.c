/* It only reads. */
#include "walk.h"
WALK(peruse, 0)
