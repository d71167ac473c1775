/* IRET to the same ring loads EFLAGS with IF, IOPL, NT, AC, DF and faults with EIP still on it (SDM 2, IRET). */
#include "lib/rt.h"

CODE(iret_flags, "push %eax; push $8; push $1f; iret; 1: pushf; pop %ebx; push $2; popf");
CODE(iret_16, "pushw %ax; pushw $8; mov $1f, %ecx; pushw %cx; data16 iret; 1: pushf; pop %ebx; push $2; popf");
CODE(iret_null, "push $2; push $0; push $1f; iret; 1: nop");
CODE(iret_data, "push $2; push $0x10; push $1f; iret; 1: nop");
CODE(iret_absent, "push $2; push $0x38; push $1f; iret; 1: nop");
CODE(iret_beyond, "push $2; push $0x208; push $1f; iret; 1: nop");
CODE(iret_dpl3_rpl0, "push $2; push $0x18; push $1f; iret; 1: nop");

int main(void)
{
	static const u32 flags[] = { 2, F_IF, F_IOPL, F_NT, F_AC, F_DF, F_ARITH, F_ID | F_IF | F_AC };
	struct try t;

	pic_init();
	gdt[7] = gdt[1] & ~((u64)ACC_P << 40);
	for (int i = 0; i < 8; i++) {
		fresh(&t);
		t.r.eax = flags[i] | 2;
		go0("iret", iret_flags, &t);
		say(" %08x: %08x\n", flags[i] | 2, t.r.ebx);
	}
	/* The offset has 16 bits here: the code must be below 64 KiB. */
	memcpy((void *)0x7000, iret_16, iret_16_end - iret_16);
	for (u8 *p = (u8 *)0x7000; p < (u8 *)0x7020; p++)
		if (p[0] == 0xb9) /* mov $1f, %ecx: the copy's address */
			*(u32 *)(p + 1) += 0x7000 - (u32)iret_16;
	for (int i = 0; i < 5; i++) {
		fresh(&t);
		t.r.eax = flags[i] | 2;
		go0("iretw", (void *)0x7000, &t);
		say(" %08x: %08x\n", flags[i] | 2, t.r.ebx);
	}
	go0("null", iret_null, 0);
	go0("data segment", iret_data, 0);
	go0("not present", iret_absent, 0);
	go0("beyond the limit", iret_beyond, 0);
	go0("dpl 3 rpl 0", iret_dpl3_rpl0, 0);
	return 0;
}
