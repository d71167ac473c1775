/* IRETQ from ring 0 to ring 3: to 64-bit and to compatibility code, which frames are refused, and data segments of the kernel are nulled
 * (SDM 2, IRET). */
#include "../lib64/rt.h"

/* RCX CS, RDX SS, RBX RIP (0: the code behind), RSI RSP, RDI flags. */
CODE(out, "mov %rsp, tss_rsp0; push %rdx; push %rsi; push %rdi; push %rcx; push %rbx; outer_iret: iretq");
CODE(arrive, "mov %ds, %eax; mov %es, %ebx; mov %fs, %esi; mov %gs, %edi; pushfq; pop %rcx; int $0x30");
CODE32(arrive32, "mov %ds, %eax; mov %es, %ebx; mov %fs, %esi; mov %gs, %edi; pushf; pop %ecx; mov %ss, %edx; int $0x30");

static void show(const char *name, u64 cs, u64 ss, u64 rip, u64 rsp, u64 flags)
{
	struct try t;

	fresh(&t);
	t.r.rcx = cs;
	t.r.rdx = ss;
	t.r.rbx = rip;
	t.r.rsi = rsp;
	t.r.rdi = flags;
	t.code = out;
	try0(&t, out);
	if (t.vector == VEC_DONE)
		say("%s: cs %04lx ss %04lx ds %04lx es %04lx fs %04lx gs %04lx flags %lx rsp %s\n", name, t.cs, t.ss, t.r.rax & 0xffff,
		    t.r.rbx & 0xffff, t.r.rsi & 0xffff, t.r.rdi & 0xffff, t.r.rcx & 0xffffffff & ~F_ARITH, t.r.rsp == rsp ? "right" : "other");
	else if (t.rip == rip || t.rip == (u32)rip)
		say("%s: %s error %04lx at its target, ring %lu\n", name, vector_name(t.vector), t.error, t.cs & 3);
	else if (t.cs & 3)
		say("%s: %s error %04lx behind its target, ring %lu\n", name, vector_name(t.vector), t.error, t.cs & 3);
	else
		say("%s: %s error %04lx at +%lu ring %lu\n", name, vector_name(t.vector), t.error, t.rip - (u64)t.code, t.cs & 3);
}

int main(void)
{
	u64 to = low(arrive), to32 = low(arrive32), sp = low(user_stack_top) - 256;

	pic_init();
	gdt[SEL_FREE / 8] = gdt[SEL_UCODE / 8] & ~((u64)ACC_P << 40);
	gdt[SEL_FREE / 8 + 1] = descriptor(0, 0xfffff, 0xf1, FLAG_G | FLAG_D); /* read-only data */
	gdt[SEL_FREE / 8 + 2] = descriptor(0, 0xfffff, 0xbb, FLAG_G | FLAG_L); /* ring 1 */
	asm volatile("mov %0, %%es" : : "r"(SEL_UDATA));
	show("64", SEL_UCODE, SEL_UDATA, to, sp, 2);
	show("compat", SEL_UCODE32, SEL_UDATA, to32, sp, 2);
	show("64, flags", SEL_UCODE, SEL_UDATA, to, sp, F_IF | F_ID | F_AC | F_NT | F_IOPL | 2);
	show("compat, flags", SEL_UCODE32, SEL_UDATA, to32, sp, F_IF | F_ID | F_AC | F_NT | F_IOPL | 2);
	show("64, stack misaligned", SEL_UCODE, SEL_UDATA, to, sp + 3, 2);
	show("64, stack high", SEL_UCODE, SEL_UDATA, to, 0xffff812345678000, 2);
	show("64, ss null", SEL_UCODE, 0, to, sp, 2);
	show("64, ss null rpl 3", SEL_UCODE, 3, to, sp, 2);
	show("compat, ss null rpl 3", SEL_UCODE32, 3, to32, sp, 2);
	show("ss of the kernel", SEL_UCODE, SEL_KDATA, to, sp, 2);
	show("ss rpl 0", SEL_UCODE, SEL_UDATA & ~3, to, sp, 2);
	show("ss read-only", SEL_UCODE, SEL_FREE + 8 + 3, to, sp, 2);
	show("ss beyond the limit", SEL_UCODE, 0xfff3, to, sp, 2);
	show("cs not present", SEL_FREE + 3, SEL_UDATA, to, sp, 2);
	show("cs of the kernel, rpl 3", SEL_KCODE | 3, SEL_UDATA, to, sp, 2);
	show("cs data", SEL_UDATA, SEL_UDATA, to, sp, 2);
	show("cs in no LDT", 0x0f, SEL_UDATA, to, sp, 2);
	show("rip of the kernel", SEL_UCODE, SEL_UDATA, (u64)arrive, sp, 2);
	return 0;
}
