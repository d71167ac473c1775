/* Descriptor tables: a flat GDT, an IDT of 256 interrupt gates, one TSS. */
#include "rt.h"

u64 gdt[GDT_ENTRIES] __attribute__((aligned(4096)));
u64 idt[256] __attribute__((aligned(4096)));
u64 ldt[16] __attribute__((aligned(8)));

/* The I/O permission bitmap directly behind the TSS, ended by the byte of ones that the CPU asks for. */
static struct { struct tss t; u8 bits[512 + 1]; } task __attribute__((aligned(4096)));
struct tss *const tss = &task.t;
u8 *const io_bitmap = task.bits;
asm(".globl tss_esp0\n.set tss_esp0, task+4"); /* for try3 */

extern const char entry_stubs[];

u64 descriptor(u32 base, u32 limit, u8 access, u8 flags)
{
	u64 d = limit & 0xffff;

	d |= (u64)(base & 0xffffff) << 16;
	d |= (u64)access << 40;
	d |= (u64)((limit >> 16) & 0xf) << 48;
	d |= (u64)(flags & 0xf) << 52;
	d |= (u64)(base >> 24) << 56;
	return d;
}

u64 gate(u16 sel, const void *entry, u8 access)
{
	u32 e = (u32)entry;

	return (e & 0xffff) | (u64)sel << 16 | (u64)access << 40 | (u64)(e >> 16) << 48;
}

void set_gate(int vector, const void *entry, u8 access)
{
	idt[vector] = gate(SEL_KCODE, entry, access);
}

const void *stub(int vector)
{
	return entry_stubs + 16 * vector;
}

void load_gdt(void)
{
	struct dtr r = { sizeof gdt - 1, (u32)gdt };

	asm volatile("lgdt %0\n"
		     "ljmp $0x08, $1f\n"
		     "1: mov %1, %%ds\n mov %1, %%es\n mov %1, %%fs\n mov %1, %%gs\n mov %1, %%ss"
		     : : "m"(r), "r"(SEL_KDATA) : "memory");
}

void load_idt(void)
{
	struct dtr r = { sizeof idt - 1, (u32)idt };

	asm volatile("lidt %0" : : "m"(r));
}

void load_tss(u16 limit)
{
	gdt[SEL_TSS / 8] = descriptor((u32)tss, limit, 0x89, 0);
	asm volatile("ltr %w0" : : "r"(SEL_TSS) : "memory");
}

void rt_init(void);
void serial_init(void);
void rt_init(void)
{
	serial_init();
	write_cr0(CR0_PE | CR0_ET); /* firmware leaves caches as it likes */
	gdt[1] = descriptor(0, 0xfffff, 0x9b, FLAG_G | FLAG_D);
	gdt[2] = descriptor(0, 0xfffff, 0x93, FLAG_G | FLAG_D);
	gdt[3] = descriptor(0, 0xfffff, 0xfb, FLAG_G | FLAG_D);
	gdt[4] = descriptor(0, 0xfffff, 0xf3, FLAG_G | FLAG_D);
	load_gdt();
	asm volatile("lldt %w0" : : "r"(0)); /* after reset it is one of 64 KiB at 0 */
	for (int v = 0; v < 256; v++)
		set_gate(v, stub(v), v == VEC_DONE ? GATE_INT | GATE_DPL3 : GATE_INT);
	load_idt();
	memset(task.bits, 0xff, sizeof task.bits);
	tss->ss0 = SEL_KDATA;
	tss->iomap = 104;
	load_tss(TSS_LIMIT_NO_BITMAP);
}
