/* Prefixes before sensitive instructions: ignored where they mean nothing, #UD with LOCK, honoured where they size (SDM 2, 2.1.1). */
#include "lib/rt.h"

#define BYTES(name, bytes, rest) CODE(name, ".byte " bytes ";" rest)
BYTES(pushf_16, "0x66, 0x9c", "pop %ax");
BYTES(pushf_seg, "0x2e, 0x9c", "pop %eax");
BYTES(pushf_rep, "0xf3, 0x9c", "pop %eax");
BYTES(pushf_67, "0x67, 0x9c", "pop %eax");
BYTES(pushf_lock, "0xf0, 0x9c", "pop %eax");
BYTES(pushf_many, "0x3e, 0xf2, 0x64, 0x67, 0x9c", "pop %eax");
CODE(popf_seg, "push $0x402; .byte 0x36, 0x9d; pushf; pop %eax; cld");
CODE(popf_lock, "push $2; .byte 0xf0, 0x9d");
BYTES(cli_67, "0x67, 0xfa", "nop");
BYTES(cli_66, "0x66, 0xfa", "nop");
BYTES(cli_fs, "0x64, 0xfa", "nop");
BYTES(cli_lock, "0xf0, 0xfa", "nop");
BYTES(cpuid_66, "0x66, 0x0f, 0xa2", "xor %eax, %eax");
BYTES(cpuid_lock, "0xf0, 0x0f, 0xa2", "nop");
BYTES(cr0_66, "0x66, 0x0f, 0x20, 0xc0", "nop");
BYTES(cr0_f3, "0xf3, 0x0f, 0x20, 0xc0", "nop");
BYTES(clts_66, "0x66, 0x0f, 0x06", "nop");
BYTES(push_cs_66, "0x66, 0x0e", "pop %ax");
BYTES(push_ds_seg, "0x65, 0x1e", "pop %eax; and $0xffff, %eax");
BYTES(mov_ds_66, "0x66, 0x8c, 0xd8", "nop");
BYTES(in_66, "0x66, 0xe5, 0xf2", "nop");
BYTES(in_f2, "0xf2, 0xe4, 0x21", "nop");
BYTES(int3_f3, "0xf3, 0xcc", "nop");
BYTES(int3_lock, "0xf0, 0xcc", "nop");
BYTES(iret_lock, "0xf0, 0xcf", "nop");
BYTES(sldt_66, "0x66, 0x0f, 0x00, 0xc0", "nop");
BYTES(lgdt_lock, "0xf0, 0x0f, 0x01, 0x13", "nop");
BYTES(str_f2, "0xf2, 0x0f, 0x00, 0xc8", "nop");
BYTES(long_14, "0x66, 0x67, 0x2e, 0x3e, 0x26, 0x64, 0x65, 0x36, 0x66, 0x67, 0x2e, 0x3e, 0x26, 0x9c", "pop %ax");
BYTES(long_15, "0x66, 0x66, 0x67, 0x2e, 0x3e, 0x26, 0x64, 0x65, 0x36, 0x66, 0x67, 0x2e, 0x3e, 0x26, 0x9c", "pop %ax");

int main(void)
{
	static const struct { const char *name; const void *code; } all[] = {
#define X(n) { #n, n },
		X(pushf_16) X(pushf_seg) X(pushf_rep) X(pushf_67) X(pushf_lock) X(pushf_many) X(popf_seg) X(popf_lock) X(cli_67) X(cli_66)
		X(cli_fs) X(cli_lock) X(cpuid_66) X(cpuid_lock) X(cr0_66) X(cr0_f3) X(clts_66) X(push_cs_66) X(push_ds_seg) X(mov_ds_66)
		X(in_66) X(in_f2) X(int3_f3) X(int3_lock) X(iret_lock) X(sldt_66) X(lgdt_lock) X(str_f2) X(long_14) X(long_15)
	};
	struct try t;

	pic_init();
	outb(0x21, 0xc3);
	write_cr0(CR0_PE | CR0_ET);
	for (u32 i = 0; i < sizeof all / sizeof *all; i++) {
		fresh(&t);
		asm volatile("push $2; popf; cmp %%eax, %%eax" : : : "cc"); /* ZF PF: try0 starts from the flags as they are */
		go0(all[i].name, all[i].code, &t);
		say(" eax %08x esp moved %s\n", t.r.eax, t.vector == (u32)-1 ? "as it should" : "-");
	}
	return 0;
}
