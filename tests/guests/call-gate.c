/* A call gate from ring 3 into ring 0 with parameters copied, and back by RETF (SDM 3, 5.8.4). */
#include "lib/rt.h"

extern char gate_entry[], boot_stack[];
u32 gate_saw[6];
asm(".text\ngate_entry: mov %cs, gate_saw; mov %ss, gate_saw+4; mov 8(%esp), %eax; mov %eax, gate_saw+8; mov 12(%esp), %eax;"
    "mov %eax, gate_saw+12; mov 4(%esp), %eax; mov %eax, gate_saw+16; mov 20(%esp), %eax; mov %eax, gate_saw+20; lret $8");
CODE(through, "mov %esp, %ebp; push $0x22222222; push $0x11111111; lcall $0x3b, $0; sub %esp, %ebp; mov %cs, %ecx; mov %ss, %edx");
CODE(jump_gate, "ljmp $0x3b, $0");

int main(void)
{
	struct try t;

	gdt[7] = gate(SEL_KCODE, gate_entry, 0xec) | (u64)2 << 32;
	gdt[8] = gate(SEL_KCODE, gate_entry, 0x8c);
	fresh(&t);
	go3("through", through, &t);
	say(" cs %04x ss %04x esp back by %u\n", t.r.ecx & 0xffff, t.r.edx & 0xffff, t.r.ebp);
	say(" entry: cs %04x ss %04x parameters %08x %08x from cs %04x ss %04x\n", gate_saw[0] & 0xffff, gate_saw[1] & 0xffff, gate_saw[2],
	    gate_saw[3], gate_saw[4] & 0xffff, gate_saw[5] & 0xffff);
	go3("jmp to it", jump_gate, 0);
	return 0;
}
