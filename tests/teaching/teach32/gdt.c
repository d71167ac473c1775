#include "kernel.h"

u64 gdt[SPARE / 8 + SPARES] __attribute__((aligned(8)));
struct tss tss;
extern u8 stack_top[];

u64 descriptor(u32 base, u32 limit, u32 flags)
{
	u32 first = (limit & 0xffff) | base << 16;
	u32 second = (base >> 16 & 0xff) | (flags & 0xff) << 8 | (limit & 0xf0000) | (flags & 0xf00) << 12 | (base & 0xff000000);
	return first | (u64)second << 32;
}

void gdt_set(u32 selector, u32 base, u32 limit, u32 flags)
{
	gdt[selector / 8] = descriptor(base, limit, flags);
}

void gdt_init(void)
{
	struct { u16 limit; u32 base; } __attribute__((packed)) pointer = { sizeof gdt - 1, (u32)gdt };

	gdt_set(KCODE, 0, 0xfffff, 0xc9a);
	gdt_set(KDATA, 0, 0xfffff, 0xc92);
	gdt_set(UCODE & ~3, 0, 0xfffff, 0xcfa);
	gdt_set(UDATA & ~3, 0, 0xfffff, 0xcf2);
	gdt_set(TSS_MAIN, (u32)&tss, sizeof tss - 1, 0x89);
	tss.ss0 = KDATA;
	tss.esp0 = (u32)stack_top;
	tss.iomap = sizeof tss;
	asm volatile("lgdt %0" : : "m"(pointer));
	asm volatile("ljmp %0, $1f\n1: mov %1, %%ds; mov %1, %%es; mov %1, %%fs; mov %1, %%gs; mov %1, %%ss; ltr %w2"
		: : "i"(KCODE), "r"(KDATA), "r"(TSS_MAIN));
}
