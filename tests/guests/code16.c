/* A 16-bit code segment in protected mode: default sizes, sensitive instructions, an interrupt out of it (SDM 3, 3.4.5, D flag). */
#include "lib/rt.h"

extern char code16[], code16_end[];
asm(".pushsection .guest,\"ax\"\n.code16\ncode16: pushw %cs\npopw %ax\npushfw\ncli\npopfw\nmovw $0x1234, %bx\nmovl $0x12345678, %ecx\n"
    "smsw %dx\nint $0x41\nstr %si\nlretl\ncode16_end:\n.code32\n.popsection");
CODE(enter, "lcall $0x38, $0x8000");

static void seen(struct frame *f)
{
	say(" int 41: cs %04x ip %04x\n", f->cs & 0xffff, f->eip);
}

int main(void)
{
	struct try t;

	gdt[7] = descriptor(0, 0xffff, 0x9b, 0);
	memcpy((void *)0x8000, code16, code16_end - code16);
	on(0x41, seen);
	for (int i = 0; i < 2; i++) {
		fresh(&t);
		go0("16 bits", enter, &t);
		say(" eax %08x ebx %08x ecx %08x edx %08x esi %08x\n", t.r.eax, t.r.ebx, t.r.ecx, t.r.edx, t.r.esi);
	}
	return 0;
}
