/* Code changes itself: an instruction of the same page after a jump, one ahead in line, a byte of an immediate (SDM 3, 8.1.3). */
#include "lib/rt.h"

/* Each writes over a later instruction of its own page, jumps, and runs it. */
CODE(same_page, "movb $0x40, 1f; jmp 1f; 1: nop; nop; nop"); /* inc %eax */
CODE(immediate, "movl $0x12345678, 1f+1; jmp 1f; 1: mov $0, %eax");
CODE(from_sensitive, "movb $0x90, 1f; xor %eax, %eax; jmp 1f; 1: cli; nop; movb $0xfa, 1b; inc %eax");
CODE(a_loop, "xor %eax, %eax; mov $5, %ecx; 1: movb %cl, 2f+1; jmp 2f; 2: mov $0, %dl; movzbl %dl, %edx; add %edx, %eax; loop 1b");
CODE(ahead, "xor %eax, %eax; movb $0x40, 1f; jmp 2f; 2: nop; nop; 1: nop; nop");


static void show(const char *name, const void *code, int ring)
{
	struct try t;

	for (int i = 0; i < 3; i++) {
		fresh(&t);
		(ring ? go3 : go0)(name, code, &t);
		say(" eax %08x\n", t.r.eax);
	}
}

int main(void)
{
	for (int ring = 0; ring < 4; ring += 3) {
		show("same page", same_page, ring);
		show("immediate", immediate, ring);
		show("ahead", ahead, ring);
		show("loop", a_loop, ring);
	}
	show("from sensitive", from_sensitive, 0);
	return 0;
}
