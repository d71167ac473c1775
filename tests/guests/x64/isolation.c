/* User code, of 64 bits and of compatibility mode, can neither read nor write nor execute the kernel's memory: #PF with P=1 and U=1 in the error
 * code (SDM 3, 4.6). */
#include "../lib64/rt.h"

u64 secret = 0x5ec2e7;
CODE(read_it, "mov (%rbx), %rax");
CODE(write_it, "movq $0, (%rbx)");
CODE(run_it, "jmp *%rbx");
CODE(call_it, "call *%rbx");
CODE(stack_it, "mov %rbx, %rsp; pop %rax");
CODE(push_it, "mov %rbx, %rsp; push %rax");
CODE32(read32, "mov (%ebx), %eax");
CODE32(write32, "movl $0, (%ebx)");
CODE32(run32, "jmp *%ebx");

int main(void)
{
	static const struct { const char *name; const char *code; int size; } pieces[] = {
		{ "read", read_it, 8 }, { "write", write_it, 8 }, { "jmp", run_it, 8 }, { "call", call_it, 8 },
		{ "pop", stack_it, 8 }, { "push", push_it, 8 }, { "read32", read32, 4 }, { "write32", write32, 4 }, { "jmp32", run32, 4 },
	};
	const struct { const char *name; u64 at; } targets[] = {
		{ "kernel data", (u64)&secret }, { "its low alias", low(&secret) }, { "kernel code", (u64)main }, { "gdt", (u64)gdt },
		{ "idt", (u64)idt }, { "tss", (u64)tss }, { "user code from above", (u64)read_it }, { "kernel stack", (u64)tss->rsp[0] - 8 },
		{ "page table", (u64)boot_pt },
	};

	for (u32 i = 0; i < sizeof targets / sizeof *targets; i++) {
		say("%s\n", targets[i].name);
		for (u32 j = 0; j < sizeof pieces / sizeof *pieces; j++) {
			struct try t;
			u64 at = targets[i].at ? targets[i].at : (u64)&secret;

			if (pieces[j].size == 4 && at >> 32)
				continue;
			fresh(&t);
			t.r.rbx = at;
			t.code = pieces[j].code;
			(pieces[j].size == 8 ? try3 : try32)(&t, pieces[j].code);
			say(" %s: %s error %lx cr2 %s\n", pieces[j].name, vector_name(t.vector), t.error, t.cr2 - at + 8 <= 8 ? "right" : "WRONG");
		}
	}
	check("the secret is as it was", secret == 0x5ec2e7);
	/* The kernel reads it between two denied accesses: each ring has its own rights at once. */
	for (int i = 0; i < 3; i++) {
		struct try t;

		fresh(&t);
		t.r.rbx = (u64)&secret;
		try3(&t, read_it);
		say("%s, and the kernel reads %lx\n", vector_name(t.vector), *(volatile u64 *)&secret);
	}
	return 0;
}
