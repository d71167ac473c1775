/* Virtual 8086 mode with CR4.VME (SDM 3, chapter 21.3 and 21.4): the interrupt redirection bitmap, VIF and VIP in the place of IF. The frames
 * that 8086 handlers get are shown by what the handler loads from them. Without VME: v86. */
#include "lib/v86.h"

CODE16(cli_piece, "cli");
CODE16(sti_piece, "sti; nop");
CODE16(pushf_piece, "pushfw; popw %ax");
CODE16(pushfd_piece, "pushfl; popl %eax");
CODE16(popf_piece, "pushw $0x0ad7; popfw; pushfw; popw %ax; pushw $0x5202; popfw; pushfw; popw %bx; pushw $2; popfw");
CODE16(popf_if, "pushw $0x0202; popfw; pushfw; popw %ax");
CODE16(popf_tf, "pushw $0x0102; popfw; nop; nop");
CODE16(popfd_piece, "pushl $0x3c3ad7; popfl");
CODE16(iret_piece, "pushw $0x46d7; pushw $0x801; pushw $(1f - iret_piece - 16); iretw; .org iret_piece + 0x20; 1: pushfw; popw %ax; mov %cs, %bx");
CODE16(iret_clear, "pushw $0x7002; pushw $0x800; pushw $(1f - iret_clear); iretw; 1: pushfw; popw %ax");
CODE16(iret_if, "pushw $0x0202; pushw $0x800; pushw $(1f - iret_if); iretw; 1: nop");
CODE16(iret_tf, "pushw $0x0102; pushw $0x800; pushw $(1f - iret_tf); iretw; 1: nop; nop");
CODE16(iretd_piece, "pushl $0x3c06d7; pushl $0x0801; pushl $(1f - iretd_piece - 16); iretl; .org iretd_piece + 0x28; 1: nop");
/* 21h goes to the program's own handler, 32h and 20h do not; 30h has none in its own table but the same. */
CODE16(int_own, "mov $0x7fff, %ax; inc %ax; int $0x21; nop");
CODE16(int_own_sti, "sti; int $0x21; nop");
CODE16(int_own_back, "int $0x22; pushfw; popw %dx");
CODE16(int_own_stack, "mov $2, %sp; int $0x21; nop");
CODE16(int_own_odd, "mov $3, %sp; int $0x21; nop");
CODE16(int_idt, "int $0x32");
CODE16(int_closed, "int $0x20");
CODE16(int3_piece, "int3");
CODE16(int_3_piece, "int $3");
CODE16(into_piece, "mov $0x7f, %al; inc %al; into");
CODE16(divide, "xor %ecx, %ecx; div %cl");
CODE16(in_closed, "in $0x70, %al");
CODE16(in_open, "mov $0xabc, %dx; in %dx, %al; mov $0, %al");
/* What the handlers find: IP, CS and FLAGS of the frame, and the flags that they themselves have. */
CODE16(own_handler, "mov %sp, %bp; mov (%bp), %ax; mov 2(%bp), %bx; mov 4(%bp), %cx; pushfw; popw %dx; mov %cs, %si; hlt");
CODE16(own_return, "mov $0x1234, %ax; iretw");

#define F_VIF (1u << 19)
#define F_VIP (1u << 20)
enum { VME = 1, REDIRECTION = 32 };

static void regs(void)
{
	say(" ax %04x bx %04x cx %04x dx %04x si %04x bp %04x\n", v86_now.eax & 0xffff, v86_now.ebx & 0xffff, v86_now.ecx & 0xffff, v86_now.edx & 0xffff,
	    v86_now.esi & 0xffff, v86_now.ebp & 0xffff);
}

static void to_handler(int vector, u16 segment)
{
	*(volatile u32 *)(vector * 4) = (u32)segment << 16;
	io_bitmap[vector / 8] &= ~(1 << vector % 8);
}

#define V86_ALL(c) (V86(c, 0), regs(), V86(c, F_VIF), regs(), V86(c, F_VIP), regs(), V86(c, F_VIF | F_VIP), regs(), V86(c, F_IOPL), regs(), \
		    V86(c, F_IOPL | F_IF | F_VIF | F_VIP), regs())

static void pieces(void)
{
	V86_ALL(cli_piece);
	V86_ALL(sti_piece);
	V86_ALL(pushf_piece);
	V86_ALL(pushfd_piece);
	V86_ALL(popf_piece);
	V86_ALL(popf_if);
	V86_ALL(popf_tf);
	V86_ALL(popfd_piece);
	V86_ALL(iret_piece);
	V86_ALL(iret_clear);
	V86_ALL(iret_if);
	V86_ALL(iret_tf);
	V86_ALL(iretd_piece);
	V86_ALL(int_own);
	V86_ALL(int_own_sti);
	V86_ALL(int_own_back);
	V86_ALL(int_own_stack);
	V86_ALL(int_own_odd);
	V86_ALL(int_idt);
	V86_ALL(int_closed);
	V86_ALL(int3_piece);
	V86_ALL(int_3_piece);
	V86_ALL(into_piece);
	V86_ALL(divide);
	V86_ALL(in_closed);
	V86_ALL(in_open);
}

int main(void)
{
	v86_init();
	memcpy((void *)0x9000, own_handler, own_handler_end - own_handler);
	memcpy((void *)0xa000, own_return, own_return_end - own_return);
	tss->iomap = 104 + REDIRECTION;
	load_tss(TSS_LIMIT_BITMAP);
	io_bitmap[REDIRECTION + 0xabc / 8] &= ~(1 << 4);
	to_handler(0x21, 0x900);
	to_handler(0x22, 0xa00);
	/* Those that no bit matters to. */
	to_handler(0, 0x900);
	to_handler(4, 0x900);
	write_cr4(read_cr4() | VME);
	pieces();
	V86(int_own, F_IF | F_NT | F_AC | F_DF), regs();
	V86(int_own, F_IOPL | F_IF | F_NT | F_AC | F_DF), regs();
	V86(int_own_back, F_VIF | F_NT), regs();
	/* A TSS without room for the bitmap: one that is too short, and one whose I/O bitmap lies behind its end. */
	load_tss(TSS_LIMIT_NO_BITMAP);
	V86(int_own, 0);
	V86(int_own, F_IOPL);
	tss->iomap = 104 + 512 + 1 + REDIRECTION;
	load_tss(TSS_LIMIT_BITMAP);
	V86(int_own, 0);
	V86(int_own, F_IOPL);
	write_cr4(read_cr4() & ~VME);
	say("without VME again\n");
	tss->iomap = 104 + REDIRECTION;
	load_tss(TSS_LIMIT_BITMAP);
	V86_ALL(int_own);
	V86_ALL(sti_piece);
	return 0;
}
