/* x87 in real mode, in virtual 8086 mode and in 16-bit protected mode: the usual probe, loads and stores by 16-bit addresses, CR0.EM and TS, the
 * state of one mode found in the next (SDM 1, chapter 8; SDM 3, 13.2). */
#include "lib/real.h"
#define V86_END 0x30
#include "lib/v86.h"

CODE16(probe, "fninit; movw $0x5a5a, 0x100; fnstsw 0x100; movw $0x5a5a, 0x102; fnstcw 0x102; mov 0x100, %ax; mov 0x102, %bx; fnstsw %ax");
CODE16(sum, "fninit; mov $0x200, %bx; mov $8, %si; movw $20, (%bx); movl $22, (%bx,%si); filds (%bx); fildl (%bx,%si); faddp; fistps -2(%bx); mov -2(%bx), %ax;"
	    "fldpi; fstpl %es:8(%si); mov %es:0x10, %ecx; mov %es:0x14, %edx");
CODE16(store_on_code, "fldcw %cs:1f - store_on_code; fnstcw %cs:2f - store_on_code; mov %cs:2f - store_on_code, %ax; int $0x30; 1: .word 0x27f; 2: .word 0");
CODE16(at_end, "fldz; mov $0xfff9, %bx; fstpl (%bx)");
CODE16(kept, "fildl 0x208; fistpl 0x210; mov 0x210, %eax; fldl2t; fsts 0x214; mov 0x214, %ecx");

extern char sum16[], sum16_end[];
asm(".pushsection .guest,\"ax\"\n.code16\nsum16: fninit; mov $0x200, %bx; movw $20, (%bx); movl $23, 4(%bx); filds (%bx); fiaddl 4(%bx); fistpl -4(%bx);"
    "mov -4(%bx), %eax\nlretl\nsum16_end:\n.code32\n.popsection");
CODE(enter16, "mov %ds, %edi; mov $0x1e8, %ebx; mov %ebx, %ds; lcall $0x1e0, $0x9000; mov %edi, %ds");

static void regs(void)
{
	say(" eax %08x ebx %08x ecx %08x edx %08x\n", real->eax, real->ebx, real->ecx, real->edx);
}

int main(void)
{
	struct try t;

	real_init();
	FRESH_REAL(probe), regs();
	FRESH_REAL(sum), regs();
	FRESH_REAL(store_on_code), regs();
	FRESH_REAL(at_end);
	write_cr0(read_cr0() | CR0_TS);
	FRESH_REAL(sum);
	write_cr0((read_cr0() & ~CR0_TS) | CR0_EM);
	FRESH_REAL(sum);
	write_cr0(read_cr0() & ~CR0_EM);
	FRESH_REAL(sum);
	FRESH_REAL(kept), regs();

	v86_init();
	V86(probe, 0);
	say(" ax %04x bx %04x\n", v86_now.eax & 0xffff, v86_now.ebx & 0xffff);
	V86(sum, 0);
	say(" ax %04x %08x %08x\n", v86_now.eax & 0xffff, v86_now.ecx, v86_now.edx);
	V86(at_end, 0);
	write_cr0(read_cr0() | CR0_TS);
	V86(sum, 0);
	write_cr0(read_cr0() & ~CR0_TS);

	memcpy((void *)0x9000, sum16, sum16_end - sum16);
	for (int v = 0; v < 20; v++)
		on(v, 0);
	fresh(&t);
	go0("16-bit protected mode", enter16, &t);
	say(" eax %08x\n", t.r.eax);
	return 0;
}
