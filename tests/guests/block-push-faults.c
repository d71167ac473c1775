/* PUSHF, PUSH CS and INT n on an absent stack in ring 3, and PUSHF there with IOPL 3: #PF with ESP as before. */
#include "lib/rt.h"

CODE(pushf_, "mov $0x40001004, %esp; pushf; pushf");
CODE(push_cs, "mov $0x40001004, %esp; push %cs; push %cs");
CODE(pushfw_, "mov $0x40001001, %esp; pushfw");
CODE(call_far, "mov $0x40001004, %esp; lcall $0x1b, $1f; 1: nop");

static void show(const char *name, const void *code, u32 flags)
{
	struct try t;

	fresh(&t);
	t.r.eflags = flags | 2;
	go3(name, code, &t);
	say(" esp %08x\n", t.r.esp);
}

int main(void)
{
	u32 *pd = identity_map(16, PG_P | PG_W | PG_U);

	*pte(pd, 0x40001000) = (u32)page() | PG_P | PG_W | PG_U;
	*pte(pd, 0x40000000) = 0;
	paging_on(pd, CR0_WP);
	show("pushf", pushf_, 0);
	show("pushf, IOPL 3", pushf_, F_IOPL);
	show("push cs", push_cs, 0);
	show("pushfw across", pushfw_, 0);
	show("far call", call_far, 0);
	return 0;
}
