/* CR2 names the first byte that could not be reached, for every way to reach it, and EIP the instruction (SDM 3, 6.15, vector 14). */
#include "lib/rt.h"

#define NOT "0x40000000"
CODE(byte, "mov " NOT "+5, %al");
CODE(cross, "mov " NOT "-2, %eax");
CODE(cross_write, "mov %eax, " NOT "-1");
CODE(push, "mov %esp, %ebp; mov $" NOT "+0x800, %esp; push %eax; mov %ebp, %esp");
CODE(push_edge, "mov %esp, %ebp; mov $" NOT "+0x1000, %esp; push %eax; mov %ebp, %esp");
CODE(pop, "mov %esp, %ebp; mov $" NOT ", %esp; pop %eax; mov %ebp, %esp");
CODE(popf_, "mov %esp, %ebp; mov $" NOT "+4, %esp; popf; mov %ebp, %esp");
CODE(pushf_, "mov %esp, %ebp; mov $" NOT "+8, %esp; pushf; mov %ebp, %esp");
CODE(call, "mov %esp, %ebp; mov $" NOT "+8, %esp; call 1f; 1: mov %ebp, %esp");
CODE(ret, "mov %esp, %ebp; mov $" NOT "+8, %esp; ret");
CODE(jump, "mov $" NOT "+0x40, %eax; jmp *%eax");
CODE(jump_mem, "jmp *" NOT "+0x44");
CODE(movs_from, "cld; mov $" NOT ", %esi; mov %esp, %edi; movsl");
CODE(movs_to, "cld; mov $" NOT ", %edi; mov %esp, %esi; movsl");
CODE(sgdt_, "sgdt " NOT "+8");
CODE(sidt_, "sidt " NOT "-4");
CODE(smsw_, "smsw " NOT "+8");
CODE(lgdt_, "lgdt " NOT "+8");
CODE(lldt_, "lldt " NOT "+8");
CODE(mov_sreg, "mov %ds, " NOT "+8");
CODE(pop_sreg, "mov %esp, %ebp; mov $" NOT "+8, %esp; pop %es; mov %ebp, %esp");
CODE(push_sreg, "mov %esp, %ebp; mov $" NOT "+8, %esp; push %es; mov %ebp, %esp");
CODE(lds_, "lds " NOT "+8, %eax");
CODE(far_jump, "ljmp *" NOT "+8");
CODE(iret_, "mov %esp, %ebp; mov $" NOT "+8, %esp; iret");
CODE(lar_, "lar " NOT "+8, %eax");
CODE(outs_, "cld; mov $0x21, %edx; mov $" NOT ", %esi; outsb");
CODE(ins_, "cld; mov $0x21, %edx; mov $" NOT ", %edi; insb");
CODE(bound_, "bound %eax, " NOT);
CODE(enter_, "mov %esp, %ecx; mov $" NOT "+0x800, %esp; enter $16, $0; leave; mov %ecx, %esp");

int main(void)
{
	static const struct { const char *name; const void *code; int user; } all[] = {
#define X(n) { #n, n, 1 },
#define K(n) { #n, n, 0 },
		X(byte) X(cross) X(cross_write) X(push) X(push_edge) X(pop) X(popf_) X(pushf_) X(call) X(ret) X(jump)
		X(jump_mem) X(movs_from) X(movs_to) X(sgdt_) X(sidt_) X(smsw_) K(lgdt_) K(lldt_) X(mov_sreg) X(pop_sreg) X(push_sreg)
		X(lds_) X(far_jump) X(iret_) X(lar_) K(outs_) K(ins_) X(bound_) X(enter_)
	};
	u32 *pd = identity_map(16, PG_P | PG_W | PG_U);
	struct try t;

	*pte(pd, 0x3ffff000) = (u32)page() | PG_P | PG_W | PG_U;
	paging_on(pd, CR0_WP);
	/* Ring 0 with a bad ESP needs a stack for the #PF itself: only codes that leave ESP alone run there. */
	for (u32 i = 0; i < sizeof all / sizeof *all; i++) {
		const u8 *p = all[i].code;
		/* Of two or three parts read, which comes first is the CPU's affair. */
		u32 mask = all[i].code == lds_ || all[i].code == far_jump || all[i].code == iret_ ? ~31u : ~0u;
		int moves_esp = p[0] == 0x89 && (p[1] == 0xe5 || p[1] == 0xe1);

		if (!moves_esp) {
			fresh(&t);
			t.code = all[i].code;
			try0(&t, all[i].code);
			t.cr2 &= mask;
			report(all[i].name, &t);
		}
		if (all[i].user) {
			fresh(&t);
			t.code = all[i].code;
			try3(&t, all[i].code);
			t.cr2 &= mask;
			report(all[i].name, &t);
			if (moves_esp)
				say(" esp %08x ebp %s\n", t.r.esp, t.r.ebp == 0xb9b9b9b9 ? "kept" : "moved");
		}
	}
	return 0;
}
