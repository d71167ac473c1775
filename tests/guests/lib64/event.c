/* Events: handlers by vector; an exception inside a try ends it; any other one ends the guest. */
#include "rt.h"

static handler *handlers[256];
extern struct try *try_now;
extern char user_done[];
extern void try_abort(int result) __attribute__((noreturn));
char user_stack[8192] USER __attribute__((aligned(4096)));
asm(".globl user_stack_top\n.set user_stack_top, user_stack+8192");

void on(int vector, handler *h)
{
	handlers[vector] = h;
}

const char *vector_name(u64 v)
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
		say("unexpected %s (%lu) error %04lx at %016lx cs %04lx rflags %08lx cr2 %016lx\n", vector_name(f->vector), f->vector,
		    f->error, f->rip, f->cs, f->rflags, read_cr2());
		finish(62);
	}
	memcpy(&t->r, &f->rax, 16 * 8);
	t->r.rsp = f->rsp;
	t->r.rflags = f->rflags;
	t->vector = f->vector;
	t->error = f->error;
	t->rip = f->rip;
	t->cs = f->cs;
	t->ss = f->ss;
	t->cr2 = f->vector == 14 ? read_cr2() : 0;
	t->frame = (u64)(f + 1);
	try_abort(f->vector != VEC_DONE);
}

void fresh(struct try *t)
{
	memset(t, 0, sizeof *t);
	t->r = (struct regs){
		.rax = 0xa0a0a0a0a0a0a0a0, .rcx = 0xc0c0c0c0c0c0c0c0, .rdx = 0xd0d0d0d0d0d0d0d0, .rbx = 0xb0b0b0b0b0b0b0b0,
		.rsp = low(user_stack_top) - 64, .rbp = 0xb9b9b9b9b9b9b9b9, .rsi = 0x5151515151515151, .rdi = 0xd1d1d1d1d1d1d1d1,
		.r8 = 0x0808080808080808, .r9 = 0x0909090909090909, .r10 = 0x1010101010101010, .r11 = 0x1111111111111111,
		.r12 = 0x1212121212121212, .r13 = 0x1313131313131313, .r14 = 0x1414141414141414, .r15 = 0x1515151515151515, .rflags = 2,
	};
}

int try3(struct try *t, const void *code)
{
	t->r.rsp -= 8;
	*(u64 *)t->r.rsp = low(user_done);
	t->code = (const char *)low(code);
	return try_at(t, low(code), SEL_UCODE, SEL_UDATA);
}

int try32(struct try *t, const void *code)
{
	t->r.rsp -= 4;
	*(u32 *)t->r.rsp = (u32)low(user_done);
	t->code = (const char *)low(code);
	return try_at(t, low(code), SEL_UCODE32, SEL_UDATA);
}

void report(const char *name, const struct try *t)
{
	if (t->vector == (u64)-1 || t->vector == VEC_DONE) {
		say("%s: done\n", name);
		return;
	}
	say("%s: %s", name, vector_name(t->vector));
	if (t->vector > 19)
		say(" %02lx", t->vector);
	if (t->rip - (u64)t->code < 4096)
		say(" error %04lx at +%lu ring %lu", t->error, t->rip - (u64)t->code, t->cs & 3);
	else
		say(" error %04lx at %016lx ring %lu", t->error, t->rip, t->cs & 3);
	if (t->vector == 14)
		say(" cr2 %016lx", t->cr2);
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

int go32(const char *name, const void *code, struct try *t)
{
	return go(name, code, t, try32);
}
