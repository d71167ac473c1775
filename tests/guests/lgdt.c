/* LGDT and LIDT take effect, read back, and leave loaded segments as they were (SDM 2, LGDT). */
#include "lib/rt.h"

CODE(load_fs_38, "mov $0x38, %eax; mov %eax, %fs; mov %fs, %ebx");
CODE(lgdt_register, ".byte 0x0f, 0x01, 0xd0 + 4");
CODE(int_40, "int $0x40");
static u64 other_gdt[16] __attribute__((aligned(8)));
static u64 other_idt[256] __attribute__((aligned(8)));

static void seen(struct frame *f)
{
	say("int %02x, cs %04x\n", f->vector, f->cs & 0xffff);
}

int main(void)
{
	static struct dtr g = { sizeof other_gdt - 1, (u32)other_gdt }, i = { 8 * 0x42 - 1, (u32)other_idt }, back, small = { 0x1f, (u32)other_gdt };
	u16 cs;

	memcpy(other_gdt, gdt, sizeof other_gdt);
	memcpy(other_idt, idt, sizeof other_idt);
	other_gdt[7] = descriptor(0, 0xfffff, 0x93, FLAG_G | FLAG_D);
	go0("fs before", load_fs_38, 0);
	asm volatile("lgdt %0; sgdt %1" : : "m"(g), "m"(back));
	say("%04x %s\n", back.limit, back.base == (u32)other_gdt ? "base" : "-");
	go0("fs after", load_fs_38, 0);
	other_gdt[7] = 0; /* FS keeps what it has; only a new load sees it */
	go0("fs emptied", load_fs_38, 0);
	other_gdt[1] = 0;
	asm volatile("mov %%cs, %0" : "=r"(cs));
	say("cs %04x still runs without a descriptor\n", cs);
	other_gdt[1] = gdt[1];
	asm volatile("lgdt %0; sgdt %1" : : "m"(small), "m"(back));
	say("%04x\n", back.limit);
	go0("beyond the smaller limit", load_fs_38, 0);
	go0("not of a register", lgdt_register, 0);
	asm volatile("lgdt %0" : : "m"(g));
	on(0x40, seen);
	on(0x41, seen);
	other_idt[0x40] = other_idt[0x41];
	asm volatile("int $0x40");
	asm volatile("lidt %0; sidt %1" : : "m"(i), "m"(back));
	say("%04x %s\n", back.limit, back.base == (u32)other_idt ? "base" : "-");
	asm volatile("int $0x40");
	other_idt[0x40] = 0;
	go0("gate emptied", int_40, 0);
	return 0;
}
