/* Code copied to fresh pages, run, freed and replaced by other code: never the old one runs (JITs, module unloading). */
#include "lib/rt.h"

extern char piece_a[], piece_b[];
asm(".pushsection .guest,\"ax\"\npiece_a: mov $0xa, %eax\npush %cs\npop %ecx\npushf\ncli\npopf\nret\n"
    "piece_b: mov $0xb, %eax\npush %ss\npop %ecx\npushf\npop %edx\nret\n.popsection");

int main(void)
{
	u8 *p = page();
	struct try t;
	u32 bad = 0;

	page();
	for (u32 i = 0; i < 200; i++) {
		u32 at = (i * 37) % 4080 + 16; /* over the page's end too */

		memset(p + at - at % 4, 0xf4, 32);
		memcpy(p + at, i & 1 ? piece_b : piece_a, 16);
		fresh(&t);
		if (try0(&t, p + at) || t.r.eax != (i & 1 ? 0xb : 0xa) || (t.r.ecx & 0xffff) != (i & 1 ? SEL_KDATA : SEL_KCODE)) {
			if (!bad++)
				say("round %u: vector %d eax %08x ecx %08x\n", i, t.vector, t.r.eax, t.r.ecx);
		}
	}
	check("200 pieces", bad == 0);
	return 0;
}
