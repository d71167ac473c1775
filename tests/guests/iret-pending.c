/* An interrupt that waits comes right behind an IRET that sets IF, at the target, and not behind one that does not (SDM 3, 6.8.1). The
 * same IRET many times. */
#include "lib/pending.h"

enum { ROUNDS = 12 };

CODE(opens, "push $0x202; push %cs; push $1f; mov $5, %ebx; iret; nop; 1: nop; cli");
CODE(keeps_shut, "push $2; push %cs; push $1f; mov $5, %ebx; iret; nop; 1: nop; nop");
CODE(behind_sti, "push $0x202; push %cs; push $1f; sti; iret; nop; 1: nop; cli");
CODE(shuts, "push $2; push %cs; push $1f; sti; iret; nop; 1: nop; nop");
CODE(twice, "push $0x202; push %cs; push $2f; push $0x2; push %cs; push $1f; mov $5, %ebx; 1: iret; nop; 2: nop; cli");

static void show(const char *name, const char *code)
{
	u32 first = 0, others = 0;

	for (int round = 0; round < ROUNDS; round++) {
		struct try t;
		u32 now;

		irq_raise();
		fresh(&t);
		t.code = code;
		try0(&t, code);
		now = irq_count ? irq_eip - (u32)code : (u32)-1;
		if (irq_count && (!(irq_flags & F_IF) || irq_cs != SEL_KCODE || irq_count != 1))
			others++;
		if (!round)
			first = now;
		else if (now != first)
			others++;
		sti(); /* take what is left */
		asm volatile("nop; nop");
		cli();
	}
	say("%s: interrupt at %d, other rounds %u\n", name, (int)first, others);
}

int main(void)
{
	paging_on(identity_map(16, PG_P | PG_W), CR0_WP);
	irq_setup();
	show("opens", opens);
	show("keeps shut", keeps_shut);
	show("behind sti", behind_sti);
	show("shuts", shuts);
	show("shut, then open", twice);
	return 0;
}
