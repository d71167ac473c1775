/* Stacks that grow on demand: ring 3 pushes into an absent page, the handler maps it, the push is done once (SDM 3, 4.7). */
#include "lib/rt.h"

static u32 *pd, faults;
static void grow(struct frame *f)
{
	u32 a = read_cr2();

	faults++;
	if (a >> 24 != 0x40 || (f->cs & 3) != 3) {
		say("unexpected #PF at %08x\n", a);
		finish(61);
	}
	*pte(pd, a) = (u32)page() | PG_P | PG_W | PG_U;
}

CODE(deep, "mov %esp, %ebp; mov $0x40010000, %esp; mov $3000, %ecx; 1: push %ecx; loop 1b; mov $3000, %ecx; xor %eax, %eax; 1: pop %edx; add %edx, %eax; loop 1b; mov %ebp, %esp");
CODE(strings, "cld; mov $0x40020ffd, %edi; mov $0x5a, %al; mov $0x2006, %ecx; rep stosb; mov $0x40020ffd, %esi; mov $0x40030ffe, %edi; mov $0x2006, %ecx; rep movsb");

int main(void)
{
	struct try t;

	pd = identity_map(16, PG_P | PG_W | PG_U);
	paging_on(pd, CR0_WP);
	on(14, grow);
	fresh(&t);
	go3("push", deep, &t);
	say(" sum %u faults %u\n", t.r.eax, faults);
	faults = 0;
	fresh(&t);
	go3("strings", strings, &t);
	say(" esi %08x edi %08x ecx %u faults %u\n", t.r.esi, t.r.edi, t.r.ecx, faults);
	on(14, 0);
	say("%02x %02x %02x\n", *(u8 *)0x40030ffe, *(u8 *)0x40033003, *(u8 *)0x40033004);
	return 0;
}
