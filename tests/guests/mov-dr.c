/* MOV DR: DR0 to DR3 read back, DR6 and DR7 show their fixed bits, DR4 and DR5 are DR6 and DR7 (SDM 3, 18.2). */
#include "lib/rt.h"

CODE(dr_plain, "mov $0x11111111, %eax; mov %eax, %dr0; mov $0x22222222, %eax; mov %eax, %dr1; mov $0x33333333, %eax; mov %eax, %dr2;"
	"mov $0x44444444, %eax; mov %eax, %dr3; mov %dr0, %eax; mov %dr1, %ebx; mov %dr2, %ecx; mov %dr3, %edx");
CODE(dr6, "xor %eax, %eax; mov %eax, %dr6; mov %dr6, %ebx; mov $0xe00f, %eax; mov %eax, %dr6; mov %dr6, %ecx; mov %dr4, %edx; xor %eax, %eax; mov %eax, %dr6");
CODE(dr7, "xor %eax, %eax; mov %eax, %dr7; mov %dr7, %ebx; mov $0xf0300, %eax; mov %eax, %dr7; mov %dr7, %ecx; mov %dr5, %edx; xor %eax, %eax; mov %eax, %dr7");

static void show(const char *name, const void *code)
{
	struct try t;

	fresh(&t);
	go0(name, code, &t);
	say(" %08x %08x %08x %08x\n", t.r.eax, t.r.ebx, t.r.ecx, t.r.edx);
	go3("  in ring 3", code, 0);
}

int main(void)
{
	show("dr0-3", dr_plain);
	show("dr6", dr6);
	show("dr7", dr7);
	return 0;
}
