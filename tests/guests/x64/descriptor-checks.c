/* LAR, LSL, VERR and VERW in 64-bit mode and in ring 3 of both sizes: rights, 16-byte descriptors, types that long mode does not know (SDM 2, LAR, LSL). */
#include "../lib64/rt.h"

CODE(look, "xor %eax, %eax; xor %ebx, %ebx; lar %ecx, %eax; pushfq; pop %rdx; lsl %ecx, %ebx; pushfq; pop %rsi; verr %cx; pushfq; pop %rdi; verw %cx; pushfq; pop %r8");
CODE(look16, "xor %eax, %eax; xor %ebx, %ebx; lar %cx, %ax; pushfq; pop %rdx; lsl %cx, %bx; pushfq; pop %rsi; verr %cx; pushfq; pop %rdi; verw %cx; pushfq; pop %r8");
CODE(look64, "mov $-1, %rax; mov $-1, %rbx; lar %rcx, %rax; pushfq; pop %rdx; lsl %rcx, %rbx; pushfq; pop %rsi; verr %cx; pushfq; pop %rdi; verw %cx; pushfq; pop %r8");
CODE32(look32, "xor %eax, %eax; xor %ebx, %ebx; lar %ecx, %eax; pushf; pop %edx; lsl %ecx, %ebx; pushf; pop %esi; verr %cx; pushf; pop %edi; verw %cx; pushf; pop %ecx");

static void show(u64 selector)
{
	static const void *const codes[] = { look, look16, look64, look };
	struct try t;

	say("%04lx", selector);
	for (int form = 0; form < 4; form++) {
		fresh(&t);
		t.r.rcx = selector;
		(form == 3 ? try3 : try0)(&t, codes[form]);
		/* Bits 19..16 are undefined. */
		say(" | %c %08lx %c %lx %c%c", t.r.rdx & F_ZF ? 'z' : '-', t.r.rdx & F_ZF ? t.r.rax & ~0xf0000ul : 0, t.r.rsi & F_ZF ? 'z' : '-',
		    t.r.rsi & F_ZF ? t.r.rbx : 0, t.r.rdi & F_ZF ? 'r' : '-', t.r.r8 & F_ZF ? 'w' : '-');
	}
	fresh(&t);
	t.r.rcx = selector;
	try32(&t, look32);
	say(" | %c %08lx %c %lx %c%c\n", t.r.rdx & F_ZF ? 'z' : '-', t.r.rdx & F_ZF ? t.r.rax & ~0xf0000ul : 0, t.r.rsi & F_ZF ? 'z' : '-',
	    t.r.rsi & F_ZF ? t.r.rbx : 0, t.r.rdi & F_ZF ? 'r' : '-', t.r.rcx & F_ZF ? 'w' : '-');
}

int main(void)
{
	static const u32 selectors[] = {
		0, SEL_KCODE, SEL_KDATA, SEL_UCODE32, SEL_UDATA, SEL_UCODE, SEL_KCODE32, SEL_KCODE | 3, SEL_KDATA | 3, SEL_UDATA & ~3, SEL_TSS,
		0x58, 0x60, 0x68, 0x70, 0x78, 0x88, 0x8b, 0x90, 0x0c, 0xfff8,
	};

	gdt[11] = descriptor(0, 0xfffff, 0x9f, FLAG_G | FLAG_L); /* conforming */
	gdt[12] = descriptor(0, 0xfffff, 0x13, FLAG_G | FLAG_D); /* not present */
	gdt[13] = descriptor(0x1000, 0xffff, 0xf1, 0); /* read-only, ring 3 */
	gdt[14] = descriptor(0, 0x1234, 0x99, 0); /* execute only */
	system_descriptor(gdt + 15, (u64)ldt, sizeof ldt - 1, 0x82); /* 0x78 */
	gdt[17] = descriptor(0, 0xfffff, 0xb3, FLAG_G | FLAG_D); /* 0x88, ring 1 */
	gdt[18] = 0;
	for (u32 i = 0; i < sizeof selectors / sizeof *selectors; i++)
		show(selectors[i]);
	return 0;
}
