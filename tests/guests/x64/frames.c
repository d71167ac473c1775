/* The frame of an exception in long mode, from ring 0, ring 3 and compatibility mode: SS and RSP always there, error code, CS, RFLAGS with RF
 * as the manual says (SDM 3, 6.14.2; 17.3.1.1). */
#include "../lib64/rt.h"

CODE(de, "xor %ecx, %ecx; div %ecx");
CODE(bp, "int3");
CODE(ud, "ud2");
CODE(gp, "mov $0xfff8, %eax; mov %eax, %ds");
CODE(np, "mov $0x60, %eax; mov %eax, %ds");
CODE(noncanonical, "mov $1, %rax; shl $47, %rax; mov (%rax), %al");
CODE(pf, "mov $-0x400000000000, %rax; mov (%rax), %al");
CODE(intn, "int $0x55");
CODE(invalid, ".byte 0x06");
CODE32(de32, "xor %ecx, %ecx; div %ecx");
CODE32(bp32, "int3");
CODE32(ud32, "ud2");
CODE32(gp32, "mov $0xfff8, %eax; mov %eax, %ds");
CODE32(np32, "mov $0x60, %eax; mov %eax, %ds");
CODE32(pf32, "mov $0x7ffff000, %eax; mov (%eax), %al");
CODE32(into32, "mov $0x7f, %al; inc %al; into");
CODE32(bound32, "mov $5, %eax; bound %eax, bounds - KBASE");
CODE32(intn32, "int $0x55");
asm(".pushsection .user,\"aw\"\nbounds: .long 0, 4\n.popsection");

enum { R0, R3, C3 };

static void show(const char *name, const char *code, int how, u64 flags)
{
	static int (*const runs[])(struct try *, const void *) = { try0, try3, try32 };
	struct try t;
	u64 rsp;

	fresh(&t);
	t.r.rflags = flags | 2;
	t.r.rsp &= ~15ul;
	rsp = t.r.rsp;
	runs[how](&t, code);
	say("%s: %s error %04lx rip +%lu cs %02lx ss %02lx rflags %05lx", name, vector_name(t.vector), t.error,
	    t.rip - (how == R0 ? (u64)code : low(code)), t.cs, t.ss, t.r.rflags & ~(u64)F_ARITH);
	if (how != R0)
		say(" rsp -%lu", rsp - t.r.rsp);
	say("\n");
}

int main(void)
{
	static const struct { const char *name; const char *code; int how; } pieces[] = {
		{ "de 0", de, R0 }, { "bp 0", bp, R0 }, { "ud 0", ud, R0 }, { "gp 0", gp, R0 }, { "np 0", np, R0 },
		{ "noncanonical 0", noncanonical, R0 }, { "pf 0", pf, R0 },
		{ "int 0", intn, R0 }, { "push es 0", invalid, R0 },
		{ "de 3", de, R3 }, { "bp 3", bp, R3 }, { "ud 3", ud, R3 }, { "gp 3", gp, R3 }, { "np 3", np, R3 },
		{ "noncanonical 3", noncanonical, R3 }, { "pf 3", pf, R3 },
		{ "int 3", intn, R3 }, { "push es 3", invalid, R3 },
		{ "de compat", de32, C3 }, { "bp compat", bp32, C3 }, { "ud compat", ud32, C3 }, { "gp compat", gp32, C3 }, { "np compat", np32, C3 },
		{ "pf compat", pf32, C3 }, { "into compat", into32, C3 }, { "bound compat", bound32, C3 }, { "int compat", intn32, C3 },
	};

	pic_init();
	gdt[12] = descriptor(0, 0xfffff, 0x73, FLAG_G | FLAG_D); /* absent, DPL 3 */
	set_gate(3, stub(3), GATE_INT | GATE_DPL3, 0);
	set_gate(4, stub(4), GATE_INT | GATE_DPL3, 0);
	for (u32 i = 0; i < sizeof pieces / sizeof *pieces; i++)
		show(pieces[i].name, pieces[i].code, pieces[i].how, F_IF | F_AC);
	return 0;
}
