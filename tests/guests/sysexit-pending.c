/* STI holds a pending interrupt back until SYSEXIT is done: it comes before the program's first instruction (SDM 2, STI); without STI it waits. Ten times each, so
 * that the places are hot. */
#include "lib/pending.h"

extern char way_sti[], way_flags[], way_closed[];
char enter_stack[4096];
char *enter_way;
u32 enter_flags;
void enter(void);
/* The kernel loads what the next return loads: EAX says how. */
asm(".text\nenter: jmp *%ss:enter_way; way_sti: nop; nop; nop; sti; sysexit; way_flags: pushl $0x202; pushl %ss:enter_flags; popf; add $4, %esp; sti; sysexit;"
    "way_closed: nop; nop; nop; nop; sysexit");
/* Into the kernel and back. */
extern char behind[];
CODE(entered, "mov $behind, %edx; mov %esp, %ecx; sysenter; behind: nop; nop");

static void run(const char *name, char *way)
{
	struct try t;
	u32 right = 0, kernel = 0, none = 0;

	enter_way = way;
	enter_flags = 2;
	for (int i = 0; i < 10; i++) {
		irq_raise();
		fresh(&t);
		/* IF is clear in the program, too, until it comes back. */
		t.r.eflags = 2;
		if (try3(&t, entered))
			say("fault %u\n", t.vector);
		if (!irq_count)
			none++;
		else if (irq_count == 1 && irq_cs == SEL_UCODE && irq_eip == (u32)behind && (irq_flags & F_IF))
			right++;
		else if (irq_cs == SEL_KCODE)
			kernel++;
		sti();
		asm volatile("nop; nop");
		cli();
	}
	say("%s: at the program's first instruction %u, in the kernel %u, not %u\n", name, right, kernel, none);
}

int main(void)
{
	paging_on(identity_map(16, PG_P | PG_W | PG_U), CR0_WP);
	irq_setup();
	wrmsr(0x174, SEL_KCODE);
	wrmsr(0x175, (u32)enter_stack + sizeof enter_stack);
	wrmsr(0x176, (u32)enter);
	run("sti", way_sti);
	run("flags and sti", way_flags);
	run("closed", way_closed);
	return 0;
}
