/* Accesses at non-canonical addresses: #GP(0), through RSP and RBP #SS(0), in all rings, never #PF (SDM 1, 3.3.7.1; SDM 3, 6.15). */
#include "../lib64/rt.h"

CODE(read, "mov (%rbx), %rax");
CODE(write, "mov %rax, (%rbx)");
CODE(by_rbp, "mov %rbx, %rbp; mov (%rbp), %rax");
CODE(by_rsp, "mov %rsp, %rdi; mov %rbx, %rsp; mov 8(%rsp), %rax; mov %rdi, %rsp");
CODE(pop_it, "mov %rbx, %rsp; pop %rax");
CODE(push_it, "mov %rbx, %rsp; push %rax");
CODE(call_on, "mov %rbx, %rsp; call 1f; 1: nop");
CODE(jump, "jmp *%rbx");
CODE(call_to, "call *%rbx");
CODE(ret_to, "push %rbx; ret");
CODE(fs_it, "mov %fs:(%rbx), %rax");
CODE(prefetch, "prefetcht0 (%rbx)");
CODE(lea, "lea (%rbx), %rax");

int main(void)
{
	static const u64 addresses[] = { 0x0000800000000000, 0xffff7fffffffff00, 0x8000000000000000, 0x0123456789abcdef };
	static const struct { const char *name; const char *code; } pieces[] = {
		{ "read", read }, { "write", write }, { "rbp", by_rbp }, { "rsp", by_rsp }, { "pop", pop_it }, { "push", push_it },
		{ "call on it", call_on }, { "jmp", jump }, { "call", call_to }, { "ret", ret_to }, { "fs", fs_it },
		{ "prefetch", prefetch }, { "lea", lea },
	};

	/* A stack of its own for events: ring 0's may be the bad one. */
	set_gate(12, stub(12), GATE_INT, 1);
	set_gate(13, stub(13), GATE_INT, 1);
	set_gate(14, stub(14), GATE_INT, 1);
	for (u32 i = 0; i < sizeof addresses / sizeof *addresses; i++)
		for (u32 j = 0; j < sizeof pieces / sizeof *pieces; j++)
			for (int ring = 0; ring < 4; ring += 3) {
				struct try t;

				fresh(&t);
				t.r.rbx = addresses[i];
				say("%lx %s ring %d", addresses[i], pieces[j].name, ring);
				(ring ? go3 : go0)("", pieces[j].code, &t);
			}
	return 0;
}
