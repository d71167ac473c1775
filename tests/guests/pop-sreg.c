/* POP DS, ES, FS, GS load and check; a refused one leaves ESP alone; 16-bit forms pop two bytes (SDM 2, POP). */
#include "lib/segloads.h"

CODE(pop_es, "push %ecx; pop %es; mov %es, %eax");
CODE(pop_gs, "push %ecx; pop %gs; mov %gs, %eax");
CODE(pop_all, "push $0x23; pop %ds; push $0x23; pop %es; push $0x23; pop %fs; push $0x23; pop %gs;"
	"mov %ds, %eax; mov %es, %ebx; mov %fs, %ecx; mov %gs, %edx");
CODE(pop_16, "mov %esp, %ebp; pushw $0x23; popw %es; pushw $0x23; popw %fs; sub %esp, %ebp; mov %es, %ebx; mov %fs, %ecx");
CODE(pop_bad, "mov %esp, %ebp; push $0x208; pop %es");

int main(void)
{
	struct try t;

	for (int ring = 0; ring < 4; ring += 3) {
		segloads_all("pop es", pop_es, ring);
		segloads_all("pop gs", pop_gs, ring);
		fresh(&t);
		(ring ? go3 : go0)("all", pop_all, &t);
		say(" %04x %04x %04x %04x\n", t.r.eax, t.r.ebx, t.r.ecx, t.r.edx);
		fresh(&t);
		(ring ? go3 : go0)("16 bits", pop_16, &t);
		say(" %04x %04x moved %d\n", t.r.ebx, t.r.ecx, t.r.ebp);
		fresh(&t);
		(ring ? go3 : go0)("refused", pop_bad, &t);
		say(" esp moved %d\n", t.r.ebp - t.r.esp);
	}
	return 0;
}
