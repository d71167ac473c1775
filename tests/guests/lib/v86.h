/* Pieces of 16-bit code run in virtual 8086 mode, and what ended them: an event that reached ring 0.
 *
 * A piece lies at 0800:0000; it finds a stack at 1000:0000, ES = 2000, DS = 3000, FS = 4000, GS = 5000. The frame is printed. */
#ifndef V86_H
#define V86_H

#include "rt.h"

struct v86 {
	u32 edi, esi, ebp, dummy, ebx, edx, ecx, eax;                   /* as pusha has them */
	u32 eip, cs, eflags, esp, ss, es, ds, fs, gs;                   /* as IRETD takes them */
	u32 vector, error, handler_flags, nulls;
};

/* The INT that ends a piece. */
#ifndef V86_END
#define V86_END 0x31
#endif
#ifndef CODE16
#define CODE16(name, text) \
	extern char name[], name##_end[]; \
	asm(".pushsection .guest,\"ax\"\n.code16\n" #name ":\n" text "\nint $0x31\n" #name "_end:\n.code32\n.popsection")
#endif

extern struct v86 v86_now;
extern char v86_out[];
void v86_enter(void);
/* Every vector's gate leads to a stub of the runtime, which calls v86_event. */
asm(".text\nv86_enter: pushal\n mov %esp, v86_esp\n lea -64(%esp), %eax\n mov %eax, tss_esp0\n mov $v86_now, %esp\n popal\n iret\n"
    "v86_out: mov v86_esp, %esp\n mov $0x10, %eax\n mov %eax, %ds\n mov %eax, %es\n mov %eax, %fs\n mov %eax, %gs\n pushl $2\n popf\n popal\n ret\n"
    ".data\n.balign 4\n.globl v86_now\nv86_now: .skip 21 * 4\nv86_esp: .long 0\n.text\n");

static void v86_event(struct frame *f)
{
	memcpy(&v86_now, &f->edi, 8 * 4);
	memcpy(&v86_now.eip, &f->eip, 5 * 4);
	if (f->eflags & F_VM)
		memcpy(&v86_now.es, (u32 *)&f->ss + 1, 4 * 4);
	v86_now.vector = f->vector;
	v86_now.error = f->error;
	v86_now.handler_flags = read_flags();
	v86_now.nulls = (f->ds | f->es | f->fs | f->gs) & 0xffff;
	asm volatile("jmp v86_out");
}

static inline void v86_init(void)
{
	for (int n = 0; n < 0x40; n++) {
		on(n, v86_event);
		set_gate(n, stub(n), GATE_INT | (n >= 0x30 || n == 3 || n == 4 ? GATE_DPL3 : 0));
	}
	outb(0x21, 0xff);
	outb(0xa1, 0xff);
}

static inline void v86_fresh(u32 flags)
{
	v86_now = (struct v86){
		.edi = 0xd1d10000, .esi = 0x51510000, .ebp = 0xb9b90000, .ebx = 0xb0b00000, .edx = 0xd0d00000, .ecx = 0xc0c00000, .eax = 0xa0a00000,
		.cs = 0x800, .eflags = F_VM | 2 | flags, .esp = 0x12340000, .ss = 0x1000, .es = 0x2000, .ds = 0x3000, .fs = 0x4000, .gs = 0x5000,
	};
}

static inline void v86_report(const char *name, u32 iopl)
{
	if (v86_now.vector == V86_END)
		say("%s iopl %u: done", name, iopl);
	else
		say("%s iopl %u: %s %02x error %04x at %04x:%04x", name, iopl, vector_name(v86_now.vector), v86_now.vector, v86_now.error,
		    v86_now.cs & 0xffff, v86_now.eip);
	say(" flags %06x ss:esp %04x:%08x segments %04x %04x %04x %04x, handler: flags %04x segments %04x\n", v86_now.eflags & ~F_ARITH, v86_now.ss & 0xffff,
	    v86_now.esp, v86_now.es & 0xffff, v86_now.ds & 0xffff, v86_now.fs & 0xffff, v86_now.gs & 0xffff, v86_now.handler_flags & F_SYSTEM, v86_now.nulls);
}

static inline void v86_run(const char *name, const char *code, const char *end, u32 flags)
{
	v86_fresh(flags);
	memcpy((void *)0x8000, code, end - code);
	v86_enter();
	v86_report(name, flags >> 12 & 3);
}

#define V86(c, flags) v86_run(#c, c, c##_end, flags)
/* With IOPL 0 and 3. */
#define V86_BOTH(c) (V86(c, 0), V86(c, F_IOPL))

#endif
