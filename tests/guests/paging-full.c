/* All 4 GiB of linear addresses are mapped and used: no hole is left for the VMM, and patched instructions still work. */
#include "lib/rt.h"

static volatile u32 ticks;
static void tick(struct frame *f)
{
	(void)f;
	ticks++;
	pic_eoi(0);
}

CODE(sensitive, "pushf; cli; sti; cli; push %cs; pop %eax; mov %ds, %ecx; popf; smsw %dx");

int main(void)
{
	u32 *pd = page(), bad = 0;
	struct try t;

	write_cr4(CR4_PSE);
	for (u32 i = 0; i < 1024; i++) /* 4 GiB over 16 MiB of memory, again and again */
		pd[i] = (i & 3) << 22 | PG_P | PG_W | PG_U | PG_PS;
	on(IRQ_BASE, tick);
	pic_init();
	pic_unmask(0);
	paging_on(pd, CR0_WP);
	for (u32 i = 0; i < 1024; i++) {
		volatile u32 *a = (u32 *)((i << 22) + 0x380000), *b = (u32 *)(((i & 3) << 22) + 0x380000);

		*a = i * 7;
		if (*b != i * 7)
			bad++;
	}
	check("every 4 MiB is there", bad == 0);
	fresh(&t);
	go0("patched code", sensitive, &t);
	say(" cs %04x ds %04x\n", t.r.eax & 0xffff, t.r.ecx & 0xffff);
	/* The code again at addresses all over the space. */
	for (u32 i = 0; i < 1024; i += 4) {
		fresh(&t);
		if (try0(&t, (char *)((i << 22) + (u32)sensitive)) || (t.r.eax & 0xffff) != SEL_KCODE || (t.r.ecx & 0xffff) != SEL_KDATA)
			bad++;
	}
	check("and anywhere", bad == 0);
	pit_start(1000);
	asm volatile("sti; hlt; cli");
	check("and interrupts", ticks > 0);
	return 0;
}
