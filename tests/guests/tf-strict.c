/* MOV SS and POP SS hold the single-step trap back for one instruction; REP traps once an iteration (SDM 3, 6.8.3, 18.3.1.4). */
#include "lib/rt.h"

static u32 start;
static void step(struct frame *f)
{
	say(" +%u", f->eip - start);
	write_dr6(0xffff0ff0);
}

CODE(mov_ss, "mov %ss, %eax; pushf; orl $0x100, (%esp); popf; nop; mov %eax, %ss; nop; nop; pushf; andl $~0x100, (%esp); popf; nop");
CODE(pop_ss, "push %ss; pushf; orl $0x100, (%esp); popf; nop; pop %ss; nop; nop; pushf; andl $~0x100, (%esp); popf; nop");

CODE(strings, "cld; mov $3, %ecx; mov %esp, %esi; lea -64(%esp), %edi; pushf; orl $0x100, (%esp); popf; nop; rep movsb; pushf; andl $~0x100, (%esp); popf; nop");

int main(void)
{
	on(1, step);
	start = (u32)mov_ss;
	BOTH(mov_ss);
	start = (u32)pop_ss;
	BOTH(pop_ss);
	start = (u32)strings;
	BOTH(strings);
	return 0;
}
