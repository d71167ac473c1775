#include "kernel.h"

handler *handlers[256];
struct frame caught;
u32 resume_at;
static u64 idt[256] __attribute__((aligned(8)));
extern u8 vectors[];

void idt_gate(u32 vector, u32 selector, u32 offset, u32 type)
{
	u32 first = (offset & 0xffff) | selector << 16;
	u32 second = (offset & 0xffff0000) | type << 8;
	idt[vector] = first | (u64)second << 32;
}

void idt_init(void)
{
	struct { u16 limit; u32 base; } __attribute__((packed)) pointer = { sizeof idt - 1, (u32)idt };

	for (u32 v = 0; v < 256; v++)
		idt_gate(v, KCODE, (u32)vectors + v * 16, 0x8e);
	/* Programs may use these: INT3, INTO, and the system calls, which are served with interrupts on. */
	idt_gate(3, KCODE, (u32)vectors + 3 * 16, 0xee);
	idt_gate(4, KCODE, (u32)vectors + 4 * 16, 0xee);
	idt_gate(SYSCALL, KCODE, (u32)vectors + SYSCALL * 16, 0xef);
	asm volatile("lidt %0" : : "m"(pointer));
}

void panic(const char *why, struct frame *f)
{
	print("panic: %s: trap %u error %x at %x:%x flags %x cr2 %x\n", why, f->vector, f->error, f->cs, f->eip, f->eflags, read_cr2());
	finish(1);
}

void trap(struct frame *f)
{
	if (handlers[f->vector]) {
		handlers[f->vector](f);
		return;
	}
	if (f->vector == 14 && page_fault(high(read_cr3()), read_cr2(), f->error))
		return;
	if ((f->cs & 3) == 3 && user_fault(f))
		return;
	if (!resume_at)
		panic("nobody expected it", f);
	caught = *f;
	f->eip = resume_at;
	f->cs = KCODE;
	f->eflags &= ~0x100;
	resume_at = 0;
}
