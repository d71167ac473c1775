/* Code and hot data share a page: every call writes next to the code that runs. */
#include "lib/rt.h"

extern char mixed[], mixed_end[], mixed_cell[];
asm(".pushsection .guest,\"ax\"\n.balign 4096\nmixed: incl mixed_cell\npushf\ncli\nmov mixed_cell, %eax\npopf\nret\nmixed_end:\n.balign 64\nmixed_cell: .long 0\n.balign 4096\n.popsection");

int main(void)
{
	struct try t;
	u32 bad = 0;

	for (u32 i = 1; i <= 3000; i++) {
		fresh(&t);
		if (try0(&t, mixed) || t.r.eax != i)
			bad++;
	}
	check("3000 calls", bad == 0);
	say("%u\n", *(u32 *)mixed_cell);
	return 0;
}
