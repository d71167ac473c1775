/* Moves of SSE in real mode, virtual 8086 mode and 16-bit protected mode: operands by 16-bit addresses, segment limits, alignment, and the
 * exceptions of an FPU that is off (SDM 3, 2.5 and 13.1; SDM 2, MOVUPS and MOVAPS). */
#include "lib/real.h"
#define V86_END 0x30
#include "lib/v86.h"

#define PIECE "mov $0x120, %bx; mov $0x10, %si; movups -0x20(%bx,%si), %xmm1; movaps %xmm1, %xmm2; movups %xmm2, 0x41(%bx); movups %xmm2, %cs:0x80; mov 0x41(%bx), %eax;" \
	      "mov 0x4d(%bx), %ecx; mov %cs:0x88, %edx"
CODE16(moves, PIECE);
CODE16(at_end, "mov $0xfff0, %bx; movups (%bx), %xmm0; inc %bx; movups (%bx), %xmm0");
CODE16(at_end_of_stack, "mov $0xfff8, %bp; movups %xmm0, (%bp)");
CODE16(unaligned, "movaps 0x100, %xmm0; movaps 0x108, %xmm0");
CODE16(big, "movl $0x10000, %ebx; movups (%ebx), %xmm0");
CODE16(wide_address, "movl $0x100, %ebx; movl $4, %ecx; movups (%ebx,%ecx,4), %xmm3; movdqu %xmm3, 0x200; mov 0x200, %eax");

extern char moves16[], moves16_end[];
asm(".pushsection .guest,\"ax\"\n.code16\nmoves16: mov $0x120, %bx; mov $0x10, %si; movups -0x20(%bx,%si), %xmm1; movaps %xmm1, %xmm2;"
    "movups %xmm2, 0x41(%bx); mov 0x41(%bx), %eax; mov 0x4d(%bx), %ecx; movups %cs:0x110, %xmm3; movups %xmm3, 0x200; mov 0x200, %edx\nlretl\nmoves16_end:\n.code32\n.popsection");
CODE(enter16, "mov %ds, %edi; mov $0x1e8, %ebx; mov %ebx, %ds; lcall $0x1e0, $0x9000; mov %edi, %ds");

static void fill(u32 base)
{
	for (u32 i = 0; i < 0x100; i++)
		((u8 *)base)[0x80 + i] = i;
}

int main(void)
{
	struct try t;

	real_init();
	write_cr4(CR4_OSFXSR);
	fill(0x20000);
	FRESH_REAL(moves);
	say(" eax %08x ecx %08x edx %08x\n", real->eax, real->ecx, real->edx);
	FRESH_REAL(at_end);
	FRESH_REAL(at_end_of_stack);
	FRESH_REAL(unaligned);
	FRESH_REAL(big);
	FRESH_REAL(wide_address);
	say(" eax %08x\n", real->eax);
	write_cr0(read_cr0() | CR0_TS);
	FRESH_REAL(moves);
	write_cr0((read_cr0() & ~CR0_TS) | CR0_EM);
	FRESH_REAL(moves);
	write_cr0(read_cr0() & ~CR0_EM);
	write_cr4(0);
	FRESH_REAL(moves);
	write_cr4(CR4_OSFXSR);

	v86_init();
	fill(0x30000);
	V86(moves, 0);
	say(" eax %08x ecx %08x edx %08x\n", v86_now.eax, v86_now.ecx, v86_now.edx);
	V86(at_end, 0);
	V86(at_end_of_stack, 0);
	V86(unaligned, 0);
	V86(moves, F_TF);
	write_cr0(read_cr0() | CR0_TS);
	V86(moves, 0);
	write_cr0(read_cr0() & ~CR0_TS);

	fill(0);
	memcpy((void *)0x9000, moves16, moves16_end - moves16);
	gdt[REAL_CODE16 / 8] = descriptor(0, 0xffff, 0x9b, 0);
	gdt[REAL_DATA16 / 8] = descriptor(0, 0xffff, 0x93, 0);
	for (int v = 0; v < 20; v++)
		on(v, 0);
	fresh(&t);
	go0("16-bit protected mode", enter16, &t);
	say(" eax %08x ecx %08x edx %08x\n", t.r.eax, t.r.ecx, t.r.edx);
	return 0;
}
