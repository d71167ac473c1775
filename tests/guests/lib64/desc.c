/* Descriptor tables of long mode: GDT, an IDT of 256 interrupt gates, one TSS with seven IST stacks. */
#include "rt.h"

u64 gdt[GDT_ENTRIES] __attribute__((aligned(4096)));
struct gate idt[256] __attribute__((aligned(4096)));
u64 ldt[16] __attribute__((aligned(8)));

/* The I/O permission bitmap directly behind the TSS, ended by the byte of ones that the CPU asks for. */
static struct __attribute__((packed)) { struct tss t; u8 bits[512 + 1]; } task __attribute__((aligned(4096)));
struct tss *const tss = &task.t;
u8 *const io_bitmap = task.bits;
asm(".globl tss_rsp0\n.set tss_rsp0, task+4"); /* for try_at */

static char ist_stacks[7][IST_SIZE] __attribute__((aligned(4096)));
extern const char entry_stubs[];
extern char user_start[], user_end[];

u64 ist_stack(int n)
{
	return (u64)ist_stacks[n - 1] + IST_SIZE;
}

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

void system_descriptor(u64 *at, u64 base, u32 limit, u8 access)
{
	at[0] = descriptor((u32)base, limit, access, 0);
	at[1] = base >> 32;
}

struct gate gate(u16 sel, u64 entry, u8 access, int ist)
{
	return (struct gate){
		.lo = (entry & 0xffff) | (u64)sel << 16 | (u64)ist << 32 | (u64)access << 40 | (entry >> 16 & 0xffff) << 48,
		.hi = entry >> 32,
	};
}

void set_gate(int vector, const void *entry, u8 access, int ist)
{
	idt[vector] = gate(SEL_KCODE, (u64)entry, access, ist);
}

const void *stub(int vector)
{
	return entry_stubs + 16 * vector;
}

void load_gdt(void)
{
	struct dtr r = { sizeof gdt - 1, (u64)gdt };

	asm volatile("lgdt %0\n"
		     "pushq $0x08; push $1f; lretq\n"
		     "1: mov %1, %%ds\n mov %1, %%es\n mov %1, %%ss\n mov %2, %%fs\n mov %2, %%gs"
		     : : "m"(r), "r"(SEL_KDATA), "r"(0) : "memory");
}

void load_idt(void)
{
	struct dtr r = { sizeof idt - 1, (u64)idt };

	asm volatile("lidt %0" : : "m"(r));
}

void load_tss(u16 limit)
{
	system_descriptor(gdt + SEL_TSS / 8, (u64)tss, limit, 0x89);
	asm volatile("ltr %w0" : : "r"(SEL_TSS) : "memory");
}

void rt_init(void);
void serial_init(void);
void rt_init(void)
{
	serial_init();
	for (char *p = user_start; p < user_end; p += 4096)
		boot_pt[low(p) >> 12] |= PG_U;
	write_cr3(read_cr3());
	gdt[1] = descriptor(0, 0xfffff, 0x9b, FLAG_G | FLAG_L);
	gdt[2] = descriptor(0, 0xfffff, 0x93, FLAG_G | FLAG_D);
	gdt[3] = descriptor(0, 0xfffff, 0xfb, FLAG_G | FLAG_D);
	gdt[4] = descriptor(0, 0xfffff, 0xf3, FLAG_G | FLAG_D);
	gdt[5] = descriptor(0, 0xfffff, 0xfb, FLAG_G | FLAG_L);
	gdt[SEL_KCODE32 / 8] = descriptor(0, 0xfffff, 0x9b, FLAG_G | FLAG_D);
	load_gdt();
	asm volatile("lldt %w0" : : "r"(0)); /* after reset it is one of 64 KiB at 0 */
	for (int v = 0; v < 256; v++)
		set_gate(v, stub(v), v == VEC_DONE ? GATE_INT | GATE_DPL3 : GATE_INT, 0);
	load_idt();
	memset(task.bits, 0xff, sizeof task.bits);
	tss->iomap = 104;
	for (int i = 1; i < 8; i++)
		tss->ist[i - 1] = ist_stack(i);
	load_tss(TSS_LIMIT_NO_BITMAP);
}
