/* Ten thousand interrupts a second through loops full of patched instructions: no register or flag is ever lost. */
#include "lib/rt.h"

static volatile u32 ticks, bad;
static void tick(struct frame *f)
{
	ticks++;
	if (!(f->eflags & F_IF) || (f->cs & 0xffff) != SEL_KCODE)
		bad++;
	pic_eoi(0);
}

u32 storm_cell[2];

int main(void)
{
	u32 rounds = 0;

	on(IRQ_BASE, tick);
	pic_init();
	pic_unmask(0);
	pit_start(10000);
	sti();
	while (ticks < 500) {
		u32 sum, esp_before, esp_after, a = 0x11111111, b = 0x22222222, c = 0x33333333, d = 0x44444444;

		asm volatile("mov %%esp, %0" : "=r"(esp_before));
		asm volatile("pushf; cli; stc; pushf; cli; popf; adc $0, %0; popf\n"
			     "sti; cli; sgdt storm_cell; sti; nop\n"
			     "pushf; push %%cs; push $1f; iret; 1:\n"
			     "push %%ds; pop %%ds; mov %%es, %%esi; mov %%esi, %%es\n"
			     "mov %%cr0, %%esi; mov %%esi, %%cr0; cli; pushf; orl $0x200, (%%esp); popf; smsw %%si\n"
			     "cmp $0x22222222, %1; pushf; cli; sti; popf; jne 2f; xor $1, %2; 2:"
			     : "+a"(a), "+b"(b), "+c"(c), "+d"(d) : : "esi", "cc", "memory");
		asm volatile("mov %%esp, %0" : "=r"(esp_after));
		sum = a + b + c + d;
		if (sum != 0x11111112u + 0x22222222 + 0x33333332 + 0x44444444 || esp_before != esp_after || !(read_flags() & F_IF))
			bad++;
		rounds++;
	}
	cli();
	pit_stop();
	check("some rounds", rounds > 0);
	check("nothing lost", bad == 0);
	return 0;
}
