/* MOV from a segment register shows the guest's selector and RPL; to memory it writes 16 bits (SDM 2, MOV). */
#include "lib/rt.h"

u32 sreg_cell;
CODE(to_r32, "mov %cs, %eax; mov %ss, %ebx; mov %ds, %ecx; mov %fs, %edx; mov %gs, %esi; mov %es, %edi");
CODE(to_r16, "movw %cs, %ax; movw %ss, %bx; movw %ds, %cx; movw %fs, %dx; movw %gs, %si; movw %es, %di");
CODE(to_memory, "mov %cs, sreg_cell; mov sreg_cell, %eax; mov %ss, sreg_cell; mov sreg_cell, %ebx");

static void show(const char *name, const void *code)
{
	struct try t;

	for (int ring = 0; ring < 4; ring += 3) {
		sreg_cell = 0x77777777;
		fresh(&t);
		if (ring)
			go3(name, code, &t);
		else
			go0(name, code, &t);
		say(" ring %u: eax %08x ebx %08x ecx %08x edx %08x esi %08x edi %08x\n", ring, t.r.eax, t.r.ebx, t.r.ecx, t.r.edx,
		    t.r.esi, t.r.edi);
	}
}

int main(void)
{
	show("r32", to_r32);
	show("r16", to_r16);
	show("memory", to_memory);
	return 0;
}
