/* One page of code mapped at two linear addresses, run through both, changed through one: relative and absolute operands are each their own. */
#include "lib/rt.h"

enum { A = 0x40000000, B = 0x50000000 };
extern char shared_code[], shared_end[];
/* call 1f; 1: pop %eax gives the address it runs at. */
asm(".pushsection .guest,\"ax\"\nshared_code: call 1f\n1: pop %eax\npush %cs\npop %ecx\npushf\ncli\npopf\nmov $0x5a, %edx\nret\nshared_end:\n.popsection");

static void run(u32 at)
{
	struct try t;

	fresh(&t);
	go0("run", (void *)at, &t);
	say(" at %08x: eax %08x ecx %04x edx %08x\n", at, t.r.eax, t.r.ecx & 0xffff, t.r.edx);
}

int main(void)
{
	u32 *pd = identity_map(16, PG_P | PG_W);
	u8 *p = page();

	memcpy(p + 0x100, shared_code, 32);
	*pte(pd, A) = (u32)p | PG_P | PG_W;
	*pte(pd, B) = (u32)p | PG_P | PG_W;
	paging_on(pd, CR0_WP);
	for (int i = 0; i < 2; i++) {
		run(A + 0x100);
		run(B + 0x100);
	}
	for (u32 n = 0; n < 32; n++)
		if (p[0x100 + n] == 0xba) {
			((volatile u8 *)B)[0x101 + n] = 0x77;
			break;
		}
	asm volatile("cpuid" : : "a"(0) : "ebx", "ecx", "edx", "memory");
	run(A + 0x100);
	run(B + 0x100);
	run((u32)p + 0x100);
	return 0;
}
