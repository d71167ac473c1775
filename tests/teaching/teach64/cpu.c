/* Descriptor tables, IST stacks, traps. */
#include "kernel.h"

handler *handlers[256];
struct frame caught;
u64 resume_at;
u8 ist_stacks[3][2048] __attribute__((aligned(16)));
extern u8 stack_top[], vectors[], syscall_entry[];

static struct { u32 reserved; u64 rsp[3], reserved1, ist[7], reserved2; u16 reserved3, iomap; } __attribute__((packed)) tss;
static u64 gdt[8] = { 0, 0x00209a0000000000, 0x0000920000000000, 0x00cffa000000ffff, 0x00cff2000000ffff, 0x0020fa0000000000 };
static struct { u64 low, high; } idt[256] __attribute__((aligned(16)));
static u8 trap_stack[8192] __attribute__((aligned(16)));
static u8 call_stack[8192] __attribute__((aligned(16)));
static u64 percpu[2];

void idt_ist(u32 vector, u32 ist)
{
	idt[vector].low = (idt[vector].low & ~(7ul << 32)) | (u64)ist << 32;
}

void cpu_init(void)
{
	struct { u16 limit; u64 base; } __attribute__((packed)) gdtr = { sizeof gdt - 1, (u64)gdt }, idtr = { sizeof idt - 1, (u64)idt };
	u64 at = (u64)&tss;

	gdt[TSS / 8] = (sizeof tss - 1) | (at & 0xffffff) << 16 | 0x89ul << 40 | (at >> 24 & 0xff) << 56;
	gdt[TSS / 8 + 1] = at >> 32;
	tss.rsp[0] = (u64)trap_stack + sizeof trap_stack;
	for (u32 i = 0; i < 3; i++)
		tss.ist[i] = (u64)ist_stacks[i] + sizeof ist_stacks[i];
	tss.iomap = sizeof tss;
	asm volatile("lgdt %0" : : "m"(gdtr));
	asm volatile("pushq %0; pushq $1f; lretq; 1: mov %w1, %%ds; mov %w1, %%es; mov %w1, %%ss; ltr %w2" : : "i"(KCODE), "r"(KDATA), "r"(TSS) : "memory");
	for (u32 v = 0; v < 256; v++) {
		u64 entry = (u64)vectors + v * 16;
		idt[v].low = (entry & 0xffff) | KCODE << 16 | 0x8eul << 40 | (entry >> 16 & 0xffff) << 48;
		idt[v].high = entry >> 32;
	}
	/* Double faults have a stack of their own, and so have undefined opcodes here, to look at it; a program may use INT3. */
	idt_ist(8, 1);
	idt_ist(6, 2);
	idt[3].low |= 0x60ul << 40;
	asm volatile("lidt %0" : : "m"(idtr));

	percpu[0] = (u64)call_stack + sizeof call_stack;
	/* GS is the kernel's now; the program's, 0, comes by SWAPGS. */
	wrmsr(0xc0000101, (u64)percpu);
	wrmsr(0xc0000102, 0);
	wrmsr(0xc0000081, (u64)0x0018 << 48 | (u64)KCODE << 32);
	wrmsr(0xc0000082, (u64)syscall_entry);
	wrmsr(0xc0000084, 0x4700);
}

void trap(struct frame *f)
{
	if (handlers[f->vector]) {
		handlers[f->vector](f);
		return;
	}
	if ((f->cs & 3) == 3 && user_fault(f))
		return;
	if (!resume_at) {
		print("panic: trap %u error %x at %x:%x%x cr2 %x%x\n", (u32)f->vector, (u32)f->error, (u32)f->cs, (u32)(f->rip >> 32), (u32)f->rip,
			(u32)(read_cr2() >> 32), (u32)read_cr2());
		finish(1);
	}
	caught = *f;
	f->rip = resume_at;
	f->cs = KCODE;
	f->rflags &= ~0x100ul;
	resume_at = 0;
}
