/* A 64-bit call gate of 16 bytes from ring 3 of both sizes into ring 0 and back by RETF: SS null inside, no parameters; gates that are refused
 * (SDM 3, 5.8.3.1). */
#include "../lib64/rt.h"

extern char gate_entry[];
u64 gate_saw[6];
u64 pointer[2] USER = { 0, 0x5b };
asm(".text\ngate_entry: mov %cs, %eax; mov %rax, gate_saw; mov %ss, %eax; mov %rax, gate_saw+8; mov 8(%rsp), %rax; mov %rax, gate_saw+16; mov 16(%rsp), %rax;"
    "mov %rax, gate_saw+24; mov 24(%rsp), %rax; mov %rax, gate_saw+32; mov %rsp, gate_saw+40; lretq");
CODE(through, "mov %rsp, %rbp; lcall *pointer(%rip); mov %cs, %ecx; mov %ss, %edx; sub %rsp, %rbp");
CODE32(through32, "mov %esp, %ebp; lcall $0x5b, $0; mov %cs, %ecx; mov %ss, %edx; sub %esp, %ebp");
CODE(jump_gate, "ljmp *pointer(%rip)");

static void set(u64 entry, u16 sel, u8 access)
{
	struct gate g = gate(sel, entry, access, 0);

	gdt[11] = g.lo;
	gdt[12] = g.hi;
}

int main(void)
{
	struct try t;
	u64 rsp;

	pointer[0] = (u64)0x5b << 32;
	for (int size = 0; size < 2; size++) {
		set((u64)gate_entry, SEL_KCODE, GATE_CALL | GATE_DPL3);
		fresh(&t);
		rsp = t.r.rsp - (size ? 4 : 8);
		(size ? go32 : go3)("through", size ? through32 : through, &t);
		say(" cs %lx ss %lx rsp moved %lu\n", t.r.rcx & 0xffff, t.r.rdx & 0xffff, t.r.rbp);
		say(" entry: cs %lx ss %lx from cs %lx rsp %s ss %lx, own rsp %s\n", gate_saw[0], gate_saw[1], gate_saw[2],
		    gate_saw[3] == rsp ? "right" : "WRONG", gate_saw[4], gate_saw[5] + 32 == tss->rsp[0] ? "RSP0 - 32" : "WRONG");
		set((u64)gate_entry, SEL_KCODE, GATE_CALL);
		(size ? go32 : go3)("dpl 0", size ? through32 : through, 0);
		set((u64)gate_entry, SEL_KCODE, (GATE_CALL | GATE_DPL3) & ~ACC_P);
		(size ? go32 : go3)("absent", size ? through32 : through, 0);
		set((u64)gate_entry, SEL_KCODE32, GATE_CALL | GATE_DPL3);
		(size ? go32 : go3)("to 32-bit code", size ? through32 : through, 0);
		set((u64)gate_entry, SEL_KDATA, GATE_CALL | GATE_DPL3);
		(size ? go32 : go3)("to data", size ? through32 : through, 0);
		set((u64)gate_entry, 0, GATE_CALL | GATE_DPL3);
		(size ? go32 : go3)("to null", size ? through32 : through, 0);
	}
	set((u64)gate_entry, SEL_KCODE, GATE_CALL | GATE_DPL3);
	go3("jmp", jump_gate, 0);
	gdt[12] |= (u64)0xf << 40;
	go3("upper half with a type", through, 0);
	return 0;
}
