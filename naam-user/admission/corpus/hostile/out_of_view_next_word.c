/* The word behind a small view. To the kernel it is the shell's view, which is large: only admission refuses it. */
#include "naam.h"
RAW(out_of_view_next_word)
{
	A("r3 = *(u64 *)(r2 + 64)"); /* refused */
	A("r0 = 0");
	A("exit");
}
