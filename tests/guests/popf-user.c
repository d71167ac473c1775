/* POPF in ring 3 keeps IOPL, and IF unless IOPL is 3, without a fault (SDM 2, POPF). */
#include "lib/rt.h"

CODE(popf_if, "push $0x202; popf; pushf; pop %eax; push $2; popf; pushf; pop %ebx");
CODE(popf_iopl, "push $0x3002; popf; pushf; pop %eax; push $2; popf; pushf; pop %ebx");
CODE(popf_rest, "push $0x244402; popf; pushf; pop %eax; push $2; popf; pushf; pop %ebx");
CODE(popfw_if, "pushw $0x202; popfw; pushf; pop %eax; pushw $2; popfw; pushf; pop %ebx");

static void show(const char *name, const void *code, u32 flags)
{
	struct try t;

	fresh(&t);
	t.r.eflags = flags | 2;
	go3(name, code, &t);
	say(" from %08x: eax %08x ebx %08x, at the end %08x\n", flags | 2, t.r.eax, t.r.ebx, t.r.eflags & F_SYSTEM);
}

int main(void)
{
	static const u32 start[] = { 0, F_IF, F_IOPL, F_IF | F_IOPL, 0x2000, 0x1000 | F_IF };

	pic_init();
	for (int i = 0; i < 6; i++) {
		show("popf IF", popf_if, start[i]);
		show("popf IOPL", popf_iopl, start[i]);
		show("popf AC ID NT DF", popf_rest, start[i]);
		show("popfw IF", popfw_if, start[i]);
	}
	return 0;
}
