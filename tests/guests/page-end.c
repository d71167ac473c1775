/* Sensitive instructions that end exactly at the page's end, and a run from one page into the next. */
#include "lib/rt.h"

extern char run_over[], run_over_end[];
asm(".pushsection .guest,\"ax\"\n.balign 4096\n.fill 4096-13, 1, 0x90\n"
    "run_over: xor %eax, %eax\nmov $0x31, %ecx\npushf\ninc %eax\npushf\npop %edx\npop %edx\ncli\n"
    "nop\npushf\npop %ebx\npush %cs\npop %ecx\ninc %eax\nret\nrun_over_end:\n.popsection");

int main(void)
{
	struct try t;

	for (int i = 0; i < 3; i++) {
		fresh(&t);
		go0("over the edge", run_over, &t);
		say(" eax %u ecx %04x starts at %03x\n", t.r.eax, t.r.ecx & 0xffff, (u32)run_over & 0xfff);
	}
	return 0;
}
