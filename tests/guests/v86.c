/* Virtual 8086 mode: entry by IRETD, what depends on IOPL, exceptions and software interrupts to ring 0 and back, segments, ports (SDM 3,
 * chapter 21; without CR4.VME). An IRETD to an EIP above FFFF is left out: #GP(0) of the IRETD itself in the manual, of the next
 * instruction in Bochs, none in TCG. */
#include "lib/v86.h"

CODE16(done, "mov %cs, %ax; mov %ss, %bx; mov %ds, %cx; mov %es, %dx; mov %fs, %si; mov %gs, %di; mov %sp, %bp");
CODE16(cli_piece, "cli");
CODE16(sti_piece, "sti; nop");
CODE16(pushf_piece, "pushfw; popw %ax");
CODE16(pushfd_piece, "pushfl; popl %eax");
CODE16(popf_piece, "pushw $0x0ad7; popfw; pushfw; popw %ax; pushw $2; popfw; pushfw; popw %bx");
CODE16(popfd_piece, "pushl $0x3c3ad7; popfl; pushfl; popl %eax; pushl $2; popfl; pushfl; popl %ebx");
CODE16(iret_piece, "pushw $0x46d7; pushw $0x801; pushw $(1f - iret_piece - 16); iretw; .org iret_piece + 0x20; 1: pushfw; popw %ax; mov %cs, %bx");
CODE16(iretd_piece, "pushl $0x3c06d7; pushl $0x12340801; pushl $(1f - iretd_piece - 16); iretl; .org iretd_piece + 0x28; 1: pushfl; popl %eax; mov %cs, %bx");
CODE16(int_piece, "int $0x32");
CODE16(int_closed, "int $0x20");
CODE16(int3_piece, "int3");
CODE16(int_3_piece, "int $3");
CODE16(into_piece, "mov $0x7f, %al; inc %al; into");
CODE16(into_not, "xor %al, %al; into");
CODE16(hlt_piece, "hlt");
CODE16(clts_piece, "clts");
CODE16(mov_cr_piece, "mov %cr0, %eax");
CODE16(mov_dr_piece, "mov %dr7, %eax");
CODE16(lgdt_piece, "lgdtl (0)");
CODE16(lmsw_piece, "lmsw %ax");
CODE16(smsw_piece, "smsw %ax; sgdtl (0x100); mov $0, %ax");
CODE16(str_piece, "str %ax");
CODE16(lar_piece, "lar %ax, %bx");
CODE16(arpl_piece, "arpl %ax, %bx");
CODE16(in_closed, "in $0x70, %al");
CODE16(in_open, "mov $0xabc, %dx; in %dx, %al; mov $0, %al; out %al, %dx");
CODE16(out_half_open, "mov $0xabf, %dx; out %ax, %dx");
CODE16(segments, "mov $0xffff, %ax; mov %ax, %ds; movl $0x89abcdef, (0x7ff0); mov $0x1700, %bx; mov %bx, %es; movl %es:0xffe0, %ecx; push %fs; pop %gs; mov %gs, %dx;"
		 "jmp 1f; 2: .word 0x5678, 0x2345; 1: lds %cs:2b - segments, %si; mov %ds, %di");
CODE16(word_at_end, "mov $0xffff, %bx; movw (%bx), %ax");
CODE16(word_on_stack, "mov $0xffff, %bp; movw (%bp), %ax");
CODE16(big_offset, "mov $0x10000, %ebx; movb (%ebx), %al");
CODE16(push_at_end, "mov $1, %sp; push %ax");
CODE16(ip_end, "movb $0x90, %cs:0xffff; .byte 0xe9; .word 0xffff - 9");
CODE16(far_call, "lcallw $0x0801, $(1f - far_call - 16); mov $2, %bx; int $0x31; .org far_call + 0x20; 1: mov %cs, %cx; mov %sp, %bp; mov (%bp), %dx; mov 2(%bp), %si; lretw");
CODE16(far_jmp32, "ljmpl $0x0800, $0x10000");
CODE16(divide, "xor %ecx, %ecx; div %cl");
CODE16(undefined, "ud2");
CODE16(single_step, "nop; nop");
CODE16(strings, "mov $3, %cx; mov $0xfffe, %di; mov $0x5151, %ax; cld; rep stosw; mov $2, %cx; mov $0xffff, %si; rep lodsw");
CODE16(lock_nop, ".byte 0xf0; nop");

static void regs(void)
{
	say(" eax %08x ebx %08x ecx %08x edx %08x\n esi %08x edi %08x ebp %08x\n", v86_now.eax, v86_now.ebx, v86_now.ecx, v86_now.edx, v86_now.esi,
	    v86_now.edi, v86_now.ebp);
}

int main(void)
{
	v86_init();
	load_tss(TSS_LIMIT_BITMAP);
	io_bitmap[0xabc / 8] &= ~(1 << 4 | 1 << 7);
	V86_BOTH(done), regs();
	V86_BOTH(cli_piece);
	V86_BOTH(sti_piece);
	V86_BOTH(pushf_piece), regs();
	V86_BOTH(pushfd_piece), regs();
	V86_BOTH(popf_piece), regs();
	V86_BOTH(popfd_piece), regs();
	V86_BOTH(iret_piece), regs();
	V86_BOTH(iretd_piece), regs();
	V86_BOTH(int_piece);
	V86_BOTH(int_closed);
	V86_BOTH(int3_piece);
	V86_BOTH(int_3_piece);
	V86_BOTH(into_piece);
	V86_BOTH(into_not);
	V86_BOTH(hlt_piece);
	V86_BOTH(clts_piece);
	V86_BOTH(mov_cr_piece);
	V86_BOTH(mov_dr_piece);
	V86_BOTH(lgdt_piece);
	V86_BOTH(lmsw_piece);
	V86(smsw_piece, 0);
	V86_BOTH(str_piece);
	V86_BOTH(lar_piece);
	V86_BOTH(arpl_piece);
	V86_BOTH(in_closed);
	V86_BOTH(in_open);
	V86_BOTH(out_half_open);
	V86(segments, 0), regs();
	V86(word_at_end, 0);
	V86(word_on_stack, 0);
	V86(big_offset, 0);
	V86(push_at_end, 0);
	V86(ip_end, 0);
	V86(far_call, 0), regs();
	V86(far_jmp32, 0);
	V86(divide, 0);
	V86(undefined, 0);
	V86(single_step, F_TF);
	V86(strings, 0), regs();
	V86(lock_nop, 0);
	V86(done, F_NT | F_AC | F_ID | F_DF);
	/* Handlers of other rings, conforming ones, and through a trap gate and a 16-bit gate. */
	gdt[7] = descriptor(0, 0xfffff, 0x9f, FLAG_G | FLAG_D);
	idt[0x32] = gate(SEL_UCODE & ~3, stub(0x32), GATE_INT | GATE_DPL3);
	V86(int_piece, F_IOPL);
	idt[0x32] = gate(0x38, stub(0x32), GATE_INT | GATE_DPL3);
	V86(int_piece, F_IOPL);
	idt[0x32] = gate(SEL_KCODE, stub(0x32), GATE_TRAP | GATE_DPL3);
	V86(int_piece, F_IOPL | F_IF | F_NT);
	return 0;
}
