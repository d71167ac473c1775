/* A function of ring 0 that may end in an event of any task: what came, where, and in which task. */
#ifndef ATTEMPT_H
#define ATTEMPT_H

#include "rt.h"

extern char attempt_end[];
void attempt_run(void);
static struct { u32 vector, error, eip, cs, flags, tr, esp, dr6; } came;
asm(".text\nattempt_run: pushal\n mov %esp, attempt_esp\n call *attempt_what\n popal\n ret\n"
    "attempt_end: mov attempt_esp, %esp\n pushl $2\n popf\n popal\n ret\n"
    ".data\n.balign 4\n.globl attempt_what\nattempt_esp: .long 0\nattempt_what: .long 0\n.text\n");
extern void (*attempt_what)(void);

static inline u32 read_tr(void)
{
	u32 v;

	asm volatile("str %0" : "=r"(v));
	return v & 0xffff;
}

static inline int is_busy(u32 sel)
{
	return gdt[sel / 8] >> 41 & 1;
}

static inline void set_busy(u32 sel, int busy)
{
	gdt[sel / 8] = (gdt[sel / 8] & ~(2ull << 40)) | (u64)(busy ? 2 : 0) << 40;
}

static void attempt_event(struct frame *f)
{
	came.vector = f->vector;
	came.error = f->error;
	came.eip = f->eip;
	came.cs = f->cs & 0xffff;
	came.flags = f->eflags;
	came.tr = read_tr();
	came.esp = f->eflags & F_VM ? f->esp : frame_esp(f);
	came.dr6 = read_dr6() & 0xe00f;
	if (came.tr != SEL_TSS) {
		set_busy(came.tr, 0);
		set_busy(SEL_TSS, 0);
		asm volatile("ltr %w0" : : "r"(SEL_TSS) : "memory");
	}
	asm volatile("lldt %w0; clts; jmp attempt_end" : : "r"(0));
}

/* All exceptions but those in a task of their own. */
static inline void attempt_init(void)
{
	for (int v = 0; v < 20; v++)
		on(v, attempt_event);
}

/* The event, if any: with its place as an offset from `base`, where that is known. */
static inline void attempt(const char *name, void (*what)(void), const char *base)
{
	came.vector = ~0u;
	attempt_what = what;
	attempt_run();
	if (came.vector == ~0u) {
		say("%s: done\n", name);
		return;
	}
	say("%s: %s error %04x in task %04x cs %04x", name, vector_name(came.vector), came.error, came.tr, came.cs);
	if (base && came.eip - (u32)base < 64)
		say(" at +%u", came.eip - (u32)base);
	if (came.vector == 1)
		say(" dr6 %04x", came.dr6);
	say("\n");
}

#endif
