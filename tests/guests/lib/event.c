/* Events: handlers by vector; an exception inside a try ends it; any other one ends the guest. */
#include "rt.h"

static handler *handlers[256];
extern struct try *try_now;
extern void try_abort(int result) __attribute__((noreturn));
char user_stack[8192] __attribute__((aligned(4096)));
asm(".globl user_stack_top\n.set user_stack_top, user_stack+8192");

void on(int vector, handler *h)
{
	handlers[vector] = h;
}

u32 frame_esp(const struct frame *f)
{
	return f->cs & 3 ? f->esp : (u32)&f->esp;
}

const char *vector_name(u32 v)
{
	static const char *const names[] = {
		"#DE", "#DB", "NMI", "#BP", "#OF", "#BR", "#UD", "#NM", "#DF", "vector 9", "#TS", "#NP", "#SS", "#GP",
		"#PF", "vector 15", "#MF", "#AC", "#MC", "#XM",
	};

	return v < sizeof names / sizeof *names ? names[v] : "interrupt";
}

void dispatch(struct frame *f);
void dispatch(struct frame *f)
{
	struct try *t = try_now;

	if (handlers[f->vector & 0xff]) {
		handlers[f->vector & 0xff](f);
		return;
	}
	if (!t) {
		say("unexpected %s (%u) error %04x at %08x cs %04x eflags %08x cr2 %08x\n", vector_name(f->vector), f->vector,
		    f->error, f->eip, f->cs & 0xffff, f->eflags, read_cr2());
		finish(62);
	}
	memcpy(&t->r, &f->edi, 8 * 4);
	t->r.esp = frame_esp(f);
	t->r.eflags = f->eflags;
	t->vector = f->vector;
	t->error = f->error;
	t->eip = f->eip;
	t->cs = f->cs & 0xffff;
	t->ss = f->cs & 3 ? f->ss & 0xffff : SEL_KDATA;
	t->cr2 = f->vector == 14 ? read_cr2() : 0;
	try_abort(f->vector != VEC_DONE);
}

void fresh(struct try *t)
{
	memset(t, 0, sizeof *t);
	t->r = (struct regs){
		.edi = 0xd1d1d1d1, .esi = 0x51515151, .ebp = 0xb9b9b9b9, .esp = (u32)user_stack_top - 64,
		.ebx = 0xb0b0b0b0, .edx = 0xd0d0d0d0, .ecx = 0xc0c0c0c0, .eax = 0xa0a0a0a0, .eflags = 2,
	};
}

void report(const char *name, const struct try *t)
{
	if (t->vector == (u32)-1 || t->vector == VEC_DONE) {
		say("%s: done\n", name);
		return;
	}
	say("%s: %s", name, vector_name(t->vector));
	if (t->vector > 19)
		say(" %02x", t->vector);
	if (t->eip - (u32)t->code < 4096)
		say(" error %04x at +%u ring %u", t->error, t->eip - (u32)t->code, t->cs & 3);
	else
		say(" error %04x at %08x ring %u", t->error, t->eip, t->cs & 3);
	if (t->vector == 14)
		say(" cr2 %08x", t->cr2);
	say("\n");
}

static int go(const char *name, const void *code, struct try *t, int (*run)(struct try *, const void *))
{
	struct try own;
	int r;

	if (!t) {
		t = &own;
		fresh(t);
	}
	t->code = code;
	r = run(t, code);
	report(name, t);
	return r;
}

int go0(const char *name, const void *code, struct try *t)
{
	return go(name, code, t, try0);
}

int go3(const char *name, const void *code, struct try *t)
{
	return go(name, code, t, try3);
}
