/* SLDT and STR show the guest's selectors; to memory they write 16 bits (SDM 2, SLDT, STR). */
#include "lib/rt.h"

u32 task_cell[2];
CODE(sldt_r16, "sldt %ax");
CODE(sldt_r32, "sldt %eax; and $0xffff, %eax");
CODE(sldt_mem, "sldt (%ebx)");
CODE(str_r16, "str %dx");
CODE(str_r32, "str %edx; and $0xffff, %edx");
CODE(str_mem, "str 4(%ebx)");

static void both(const char *name, const void *code)
{
	struct try t;

	for (int ring = 0; ring < 4; ring += 3) {
		task_cell[0] = task_cell[1] = 0x55555555;
		fresh(&t);
		t.r.ebx = (u32)task_cell;
		if (ring)
			go3(name, code, &t);
		else
			go0(name, code, &t);
		say(" ring %u: eax %08x edx %08x memory %08x %08x\n", ring, t.r.eax, t.r.edx, task_cell[0], task_cell[1]);
	}
}

static void all(void)
{
	both("sldt r16", sldt_r16);
	both("sldt r32", sldt_r32);
	both("sldt mem", sldt_mem);
	both("str r16", str_r16);
	both("str r32", str_r32);
	both("str mem", str_mem);
}

int main(void)
{
	all();
	gdt[SEL_LDT / 8] = descriptor((u32)ldt, sizeof ldt - 1, 0x82, 0);
	asm volatile("lldt %w0" : : "r"(SEL_LDT));
	say("with an LDT\n");
	all();
	return 0;
}
