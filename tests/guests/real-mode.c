/* Real mode: addresses, 64 KiB limits, stacks that wrap, far transfers, INT and IRET, LGDT and the way through protected mode (SDM 3,
 * chapter 21; SDM 2, "Real-Address Mode Exceptions"). */
#include "lib/real.h"

CODE16(forms, "mov $0x1230, %bx; mov $0x0004, %si; mov $0x8000, %bp; mov $0x7ffc, %di; lea (%bx,%si), %ax; lea -1(%bp,%di), %cx;"
	      "lea 0x8004(%bp,%di), %dx; movl $0x11112222, (%bx); movw 2(%bx), %bp; movl $0x10000, %esi; lea 0x1(%esi), %edi;"
	      "movw %cs, %fs:0; movw %fs:0, %bx; lea (%esi), %si");
CODE16(segments, "mov $0xffff, %ax; mov %ax, %ds; mov $0x1234, %ax; mov %ax, %es; mov %ds, %ecx; mov %es, %dx; push %es; pop %fs; mov %fs, %bx;"
		 "jmp 1f; 2: .word 0x5678, 0x2345; 1: lds %cs:2b - segments, %si; mov %ds, %di");
CODE16(lss_piece, "jmp 1f; 2: .word 0x5678, 0x2345; 1: mov %ss, %bx; mov %esp, %ecx; lss %cs:2b - lss_piece, %sp; mov %ss, %ax; mov %sp, %dx; mov %bx, %ss;"
		  "mov %ecx, %esp");
CODE16(word_at_end, "mov $0xffff, %bx; movb $1, (%bx); movb (%bx), %al; mov $0xfffe, %bx; movw $0x3344, (%bx); movw (%bx), %cx; inc %bx; movw (%bx), %dx");
CODE16(dword_at_end, "mov $0xfffd, %bx; movl %eax, (%bx)");
CODE16(stack_word, "mov $0xffff, %bp; mov (%bp), %ax");
CODE16(big_offset, "mov $0x10000, %ebx; movb (%ebx), %al");
CODE16(pop_at_end, "mov $0xffff, %sp; pop %ax");
CODE16(push_wraps, "xor %sp, %sp; pushw $0x1122; mov %sp, %ax; xor %sp, %sp; pushl $0x33445566; mov %sp, %bx; popw %cx; popw %dx; mov %sp, %si");
CODE16(esp_upper, "movl $0xabcd0000, %esp; push %ax; mov %esp, %ebx; pop %ax; mov %esp, %ecx; movzwl %sp, %esp");
CODE16(pusha_piece, "mov $0x1000, %sp; pushaw; mov %sp, %bp; movw 6(%bp), %dx; popaw; pushal; mov %sp, %cx; popal; mov %sp, %bx");
CODE16(enter_piece, "mov $0x2000, %bp; movw $0x7777, -2(%bp); mov $0x1000, %sp; enter $0x10, $2; mov %sp, %ax; mov %bp, %bx; movw -2(%bp), %cx; leave; mov %sp, %dx");
CODE16(near_wrap, "jmp 1f; .org near_wrap + 0x40; 1: movw $0xfffd, %bx; movb $0xe9, %cs:(%bx); movw $0x0050, %cs:1(%bx); .byte 0xe9; .word 0xfffd - 0x52;"
		  ".org near_wrap + 0x50; mov $0x1111, %ax; int $0x30; mov $0x2222, %ax");
CODE16(ip_end, "movb $0x90, %cs:(0xffff); .byte 0xe9; .word 0xffff - 9");
CODE16(cut_off, "movb $0xb0, %cs:(0xffff); .byte 0xe9; .word 0xffff - 9");
CODE16(jmp32, ".byte 0x66, 0xe9; .long 0x10000");
CODE16(far_call, "lcallw $0x0801, $(1f - far_call - 16); mov $2, %bx; int $0x30; .org far_call + 0x20; 1: mov %cs, %cx; mov %sp, %bp; mov (%bp), %dx; mov 2(%bp), %si; lretw");
CODE16(far_call32, "lcalll $0x0801, $(1f - far_call32 - 16); mov $2, %bx; int $0x30; .org far_call32 + 0x20; 1: mov %cs, %cx; mov %sp, %bp; mov (%bp), %edx; mov 4(%bp), %si; lretl");
CODE16(far_jmp32, "ljmpl $0x0800, $0x10000");
CODE16(retf_n, "pushw $9; pushw $8; pushw $0x800; pushw $(1f - retf_n); lretw $2; 1: mov %sp, %ax; pop %bx");
CODE16(interrupt, "pushfw; popw %ax; or $0x4ad5, %ax; pushw %ax; popfw; int $0x31; mov %ax, %si; pushfw; popw %dx; xor %bx, %bx; into; cld");
CODE16(iret16, "pushw $0x7ad7; pushw %cs; pushw $(1f - iret16); iretw; 1: pushfw; popw %ax; cli; pushw $2; popfw");
CODE16(iret32, "pushl $0x3f0ed7 - 0x20000; pushl $0x1230800; pushl $(1f - iret32); iretl; 1: pushfl; popl %eax; pushl $2; popfl");
CODE16(iret_beyond, "pushl $2; pushl $0x800; pushl $0x10000; iretl");
CODE16(popf_iopl, "pushw $0x7002; popfw; pushfw; popw %ax; pushl $0x240202; popfl; pushfl; popl %ebx; cli; sti; pushfl; popl %ecx; pushl $2; popfl");
CODE16(strings, "mov $3, %cx; mov $0xfffe, %di; mov $0x5151, %ax; cld; rep stosw");
CODE16(strings2, "mov $0x10000, %ecx; mov $8, %di; rep stosb; mov %di, %ax; mov $3, %cx; mov $0x20, %si; movl $0x64636261, (%si); rep movsb; mov %di, %bx; mov %si, %dx;"
		 "xor %si, %si; addr32 rep lodsb");
CODE16(divide, "xor %ecx, %ecx; div %cl");
CODE16(bound16, "movl $0x00040002, (0x100); mov $2, %ax; bound %ax, (0x100); mov $5, %ax; bound %ax, (0x100)");
CODE16(into_piece, "mov $0x7f, %al; inc %al; into");
CODE16(int3_piece, "int3");
CODE16(str_piece, "str %ax");
CODE16(sldt_piece, "sldt %ax");
CODE16(lar_piece, "lar %ax, %bx");
CODE16(arpl_piece, "arpl %ax, %bx");
CODE16(verr_piece, "verr %ax");
CODE16(lldt_piece, "lldt %ax");
CODE16(lock_nop, ".byte 0xf0; nop");
CODE16(lock_add, "lock addw $1, (0x40); .byte 0xf0; add %ax, %bx");
CODE16(mov_cs, "mov %ax, %cs");
CODE16(privileged, "clts; mov %cr0, %eax; smsw %bx; mov %cr3, %ecx; wbinvd; sti; cli; in $0x61, %al; int $0x30");
CODE16(short_ivt, "lidtl %cs:short_idt - short_ivt; mov $1, %bx; int $0x31; .byte 0xf4; short_idt: .word 0xc3; .long 0");
CODE16(through_pm, "lgdtl %cs:pm_gdt - through_pm; sgdtl (0x200); movl (0x202), %esi; sub $gdt, %esi; mov %cr0, %eax; inc %ax; mov %ax, %bx; lmsw %bx; mov %ds, %cx;"
		   "movw $0x4242, (0x210); smsw %dx; mov %cr0, %eax; and $~1, %al; mov %eax, %cr0; movw (0x210), %di; ljmpw $0x800, $(1f - through_pm);"
		   "1: mov %cs, %bx; int $0x30; pm_gdt: .word 0x1ff; .long gdt");

/* For INT 31: what it was pushed, and the flags it has. */
CODE16(on_int, "mov %sp, %bp; mov (%bp), %bx; mov 4(%bp), %ax; pushfw; popw %cx; iretw");

static void regs(void)
{
	say(" eax %08x ebx %08x ecx %08x edx %08x\n esi %08x edi %08x ebp %08x\n", real->eax, real->ebx, real->ecx, real->edx, real->esi, real->edi,
	    real->ebp);
}

int main(void)
{
	real_init();
	FRESH_REAL(forms), regs();
	FRESH_REAL(segments), regs();
	FRESH_REAL(lss_piece), regs();
	FRESH_REAL(word_at_end), regs();
	FRESH_REAL(dword_at_end);
	FRESH_REAL(stack_word);
	FRESH_REAL(big_offset);
	FRESH_REAL(pop_at_end);
	FRESH_REAL(push_wraps), regs();
	FRESH_REAL(esp_upper), regs();
	FRESH_REAL(pusha_piece), regs();
	FRESH_REAL(enter_piece), regs();
	FRESH_REAL(near_wrap), regs();
	FRESH_REAL(ip_end);
	FRESH_REAL(cut_off);
	FRESH_REAL(jmp32);
	FRESH_REAL(far_call), regs();
	FRESH_REAL(far_call32), regs();
	FRESH_REAL(far_jmp32);
	FRESH_REAL(retf_n), regs();
	real_fresh();
	real_vector(0x31, 0x800, 0x100);
	memcpy((void *)(REAL_PIECE + 0x100), on_int, on_int_end - on_int);
	REAL(interrupt), regs();
	FRESH_REAL(iret16), regs();
	FRESH_REAL(iret32), regs();
	FRESH_REAL(iret_beyond);
	FRESH_REAL(popf_iopl), regs();
	FRESH_REAL(strings), regs();
	FRESH_REAL(strings2), regs();
	FRESH_REAL(divide);
	FRESH_REAL(bound16);
	FRESH_REAL(into_piece);
	FRESH_REAL(int3_piece);
	FRESH_REAL(str_piece);
	FRESH_REAL(sldt_piece);
	FRESH_REAL(lar_piece);
	FRESH_REAL(arpl_piece);
	FRESH_REAL(verr_piece);
	FRESH_REAL(lldt_piece);
	FRESH_REAL(lock_nop);
	FRESH_REAL(lock_add);
	FRESH_REAL(mov_cs);
	FRESH_REAL(privileged);
	FRESH_REAL(short_ivt), regs();
	FRESH_REAL(through_pm), regs();
	return 0;
}
