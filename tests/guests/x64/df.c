/* Double faults in long mode: gates that are absent or lead to code of 32 bits, stacks that are not there; the error code is 0, the stack IST 1
 * (SDM 3, 6.15, #DF). */
#include "../lib64/rt.h"

CODE(divide, "xor %ecx, %ecx; div %ecx");
CODE(protect, "mov $0x208, %eax; mov %eax, %fs");
CODE(touch, "mov (%rbx), %eax");
CODE(push_it, "mov %rbx, %rsp; push %rax");

static void show(const char *name, const void *code, int ring)
{
	struct try t;

	fresh(&t);
	t.r.rbx = 0x7f1234560000;
	t.code = code;
	(ring ? try3 : try0)(&t, code);
	if (t.vector == 8)
		say("%s ring %u: #DF error %lu on %s\n", name, ring, t.error, t.frame == ist_stack(1) ? "its stack" : "another stack");
	else
		report(name, &t);
}

static void gates(int absent)
{
	for (int v = 0; v < 20; v++)
		set_gate(v, stub(v), v == absent ? GATE_INT & ~ACC_P : GATE_INT, v == 8 ? 1 : 0);
}

int main(void)
{
	for (int ring = 0; ring < 4; ring += 3) {
		gates(0);
		show("#DE, its gate absent", divide, ring);
		gates(13);
		show("#GP, its gate absent", protect, ring);
		gates(14);
		show("#PF, its gate absent", touch, ring);
		gates(-1);
		idt[0] = gate(SEL_KCODE32, (u64)stub(0), GATE_INT, 0);
		show("#DE, its gate to 32-bit code", divide, ring);
		idt[0] = gate(SEL_KDATA, (u64)stub(0), GATE_INT, 0);
		show("#DE, its gate to data", divide, ring);
		idt[0] = gate(0, (u64)stub(0), GATE_INT, 0);
		show("#DE, its gate to null", divide, ring);
		idt[13] = gate(SEL_KCODE32, (u64)stub(13), GATE_INT, 0);
		show("#GP, its gate to 32-bit code", protect, ring);
		gates(-1);
		idt[14] = gate(SEL_KCODE, (u64)stub(14), GATE_INT, 2);
		tss->ist[1] = 0x7f0000000000;
		show("#PF, its stack absent", touch, ring);
		tss->ist[1] = ist_stack(2);
		gates(-1);
	}
	show("a push without a stack", push_it, 0);
	return 0;
}
