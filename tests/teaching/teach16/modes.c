/* Protected mode and back: unreal mode, 16-bit segments at odd bases, interrupts there; and habits of real mode. */
#include "kernel.h"

enum { CODE = 8, DATA = 16, FLAT = 24, ODD = 32 };

static u64 gdt[6];
static u64 idt[256];
static struct { u16 limit; u32 base; } __attribute__((packed)) gdtr, idtr, real = { 1023, 0 };
static volatile u32 taken;
static u8 odd[32] = "an odd segment";
u32 seen[4];

static u64 segment(u32 base, u32 limit, u32 flags)
{
	return ((limit & 0xffff) | base << 16) | (u64)((base >> 16 & 0xff) | (flags & 0xff) << 8 | (limit & 0xf0000) | (flags & 0xf00) << 12 | (base & 0xff000000)) << 32;
}

extern u8 on_interrupt[];
asm(".text\non_interrupt: incl taken\niretl\n");

static void tables(void)
{
	gdt[1] = segment(SEGMENT << 4, 0xffff, 0x09a);
	gdt[2] = segment(SEGMENT << 4, 0xffff, 0x092);
	gdt[3] = segment(0, 0xfffff, 0xc92);
	gdt[4] = segment((SEGMENT << 4) + (u32)odd + 3, 0xff, 0x092);
	gdtr.limit = sizeof gdt - 1;
	gdtr.base = (SEGMENT << 4) + (u32)gdt;
	for (u32 i = 0; i < 256; i++)
		idt[i] = (u32)on_interrupt | CODE << 16 | (u64)0x8e00 << 32;
	idtr.limit = sizeof idt - 1;
	idtr.base = (SEGMENT << 4) + (u32)idt;
	asm volatile("lgdtl %0" : : "m"(gdtr));
}

static u32 load(u32 address)
{
	u32 v;
	asm volatile("addr32 movl %%fs:(%1), %0" : "=r"(v) : "r"(address));
	return v;
}
static void store(u32 address, u32 v) { asm volatile("addr32 movl %0, %%fs:(%1)" : : "r"(v), "r"(address) : "memory"); }

static void unreal(void)
{
	test("unreal");
	tables();
	/* FS with 4 GiB, then real mode again: the limit stays, until FS is loaded. The code segment is real mode's all the while. */
	asm volatile("cli; mov %%cr0, %%eax; orb $1, %%al; mov %%eax, %%cr0; jmp 1f; 1: movw %0, %%bx; mov %%bx, %%fs; andb $0xfe, %%al; mov %%eax, %%cr0; jmp 1f; 1: sti"
		: : "i"(FLAT) : "eax", "ebx", "memory");
	for (u32 i = 0; i < 1000; i++)
		store(0x200000 + i * 4, i * 77);
	u32 wrong = 0;
	for (u32 i = 0; i < 1000; i++)
		wrong += load(0x200000 + i * 4) != i * 77;
	want("wrong words", wrong, 0);
	/* Loaded with a real-mode value the base is that; the limit is still large. */
	asm volatile("movw $0x1000, %%ax; mov %%ax, %%fs" : : : "eax");
	want("base", load(0x200000 - 0x10000), 0);
	store(0x200004 - 0x10000, 0x600d);
	want("limit", load(0x200004 - 0x10000), 0x600d);
	/* And back to 64 KiB. */
	asm volatile("cli; mov %%cr0, %%eax; orb $1, %%al; mov %%eax, %%cr0; jmp 1f; 1: movw %0, %%bx; mov %%bx, %%fs; andb $0xfe, %%al; mov %%eax, %%cr0; jmp 1f; 1: xorw %%bx, %%bx; mov %%bx, %%fs; sti"
		: : "i"(DATA) : "eax", "ebx", "memory");
}

static void protected(void)
{
	test("protected-16");
	/* By LMSW, as on the 286, with code, stack and data in this segment; an interrupt and an odd segment there; and back by MOV,
	 * with a limit in FS that is real mode's, for the last one's stays. */
	asm volatile("cli; lidtl %0; smsw %%ax; orb $1, %%al; lmsw %%ax; ljmpw %2, $1f\n"
		"1: movw %3, %%ax; mov %%ax, %%ds; mov %%ax, %%ss; mov %%ax, %%es; movw %4, %%ax; mov %%ax, %%fs\n"
		"int $0x30; int $0x31; movl %%fs:0, %%eax; movl %%eax, seen; movl %%cs, %%eax; movl %%eax, seen + 4\n"
		"mov %%cr0, %%eax; movl %%eax, seen + 8; movw %3, %%bx; mov %%bx, %%fs; andb $0xfe, %%al; mov %%eax, %%cr0; ljmpw %5, $1f\n"
		"1: movw %5, %%ax; mov %%ax, %%ds; mov %%ax, %%ss; mov %%ax, %%es; xorw %%ax, %%ax; mov %%ax, %%fs; lidtl %1; sti"
		: : "m"(idtr), "m"(real), "i"(CODE), "i"(DATA), "i"(ODD), "i"(SEGMENT) : "eax", "ebx", "memory");
	want("interrupts", taken, 2);
	want("odd", seen[0], *(u32 *)(odd + 3));
	want("CS", seen[1] & 0xffff, CODE);
	want("CR0", seen[2] & 1, 1);
	struct registers r = { .eax = 0x0f00 };
	interrupt(0x10, &r);
	want("BIOS still", r.eax & 0xff, 3);
}

void test_modes(void)
{
	unreal();
	for (u32 i = 0; i < 3; i++) {
		taken = 0;
		protected();
	}
}

/* Instructions that change the ones behind them, in the page of their data; string moves both ways; far calls; flags. */
u16 own_changed(void), far_called(void), mixed(void);
extern u8 far_target[];
asm(".text\nown_changed: movb $0x11, 1f + 1\n1: movb $0, %al\nmovb $0x22, 2f + 1\n2: movb $0, %ah\nmovw $0x9090, 3f\n3: ud2\nretl\n"
	"mixed: movw $500, %cx\n1: incw counter_here\nloopw 1b\nmovw counter_here, %ax\nretl\ncounter_here: .word 0\n"
	"far_called: pushw $3\npushw $4\nlcallw $0x1230, $far_target + 16\nretl\n"
	"far_target: pushw %bp\nmovw %sp, %bp\nmovw 6(%bp), %ax\nshlw $4, %ax\norw 8(%bp), %ax\nmovw %cs, %dx\npopw %bp\nlretw $4\n");

void test_real_mode(void)
{
	static u8 text[32] = "0123456789";

	test("self-modifying");
	want("own", own_changed(), 0x2211);
	want("again", own_changed(), 0x2211);
	want("counter among code", mixed(), 500);

	test("real-mode");
	/* The same place by another segment: 1230:10 is 1231:0. */
	want("far call and arguments", far_called(), 0x43);
	asm volatile("std; rep movsb; cld" : : "S"(text + 9), "D"(text + 12), "c"(10) : "memory");
	want("moved up", memcmp(text, "0120123456789", 13), 0);
	u32 flags, ax;
	asm volatile("movw $0x7fff, %%ax; addw $1, %%ax; pushfw; popw %%bx; movzwl %%bx, %0; aaa; movzwl %%ax, %1" : "=r"(flags), "=a"(ax) : : "ebx", "cc");
	want("flags", flags & 0x8d5, 0x894);
	want("aaa", ax, 0x8106);
	far_word_set(0xb800, 0, far_word(0xb000, 0x8000));
	want("one place, two names", far_word(0xb800, 0), far_word(0xb000, 0x8000));
}
