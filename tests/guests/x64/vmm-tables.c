/* Descriptor tables, TSS, I/O bitmap and the stacks of events, half on a page of the guest and half where a VMM's own memory may be (PML4 entry 260), in
 * which the guest has nothing: what the CPU reads and writes there by itself is #PF, not present, supervisor (SDM 3, 4.6.1, 6.15). */
#include "../lib64/rt.h"

#define SLOT 0xffff820000000000ul
static const u64 places[] = {
	SLOT, SLOT + 0x1000, SLOT + 0x3000, SLOT + 0x4000, SLOT + 0x5000, SLOT + 0x10000, SLOT + 0x1f000, SLOT + 0x20000, SLOT + 0x40000, SLOT + 0x50000,
	SLOT + (1ul << 30), SLOT + (1ul << 30) + 0x3000,
};
static u64 *root;
static u8 *mine; /* the guest's page, in front of the place or behind it */
static u64 place;
static int verbose, odd;
u64 pointer[2] USER;

CODE(nothing, "nop");
CODE(event, "int $0x31");
CODE(trap, "int3");
CODE(in_, "mov $0x80, %dx; in %dx, %al");
CODE(ds_, "mov %ecx, %ds");
CODE(fs_, "mov %ecx, %fs");
CODE(ss_, "mov %ecx, %ss");
CODE(jmp_, "ljmp *pointer(%rip)");
CODE(call_, "lcall *pointer(%rip)");
CODE(lret_, "push %rcx; push %rbx; lretq");
CODE(iret_, "mov %rsp, %rax; mov %ss, %edx; push %rdx; push %rax; pushq $2; push %rcx; push %rbx; iretq");
CODE(ltr_, "ltr %cx");
CODE(lldt_, "lldt %cx");
CODE(lar_, "lar %ecx, %eax");
CODE(verw_, "verw %cx");
CODE32(ds32, "mov %ecx, %ds");
CODE32(event32, "int $0x31");

/* What became of it must be the same everywhere but for the address, which is told relative to the place. */
static void tell(const char *name, const struct try *t, int ring, u64 at)
{
	int good = t->vector == 14 && t->cr2 == at;

	if (verbose)
		say("%s ring %d: %s error %lx ring %lu", name, ring, vector_name(t->vector), t->error, t->cs & 3);
	if (verbose && t->vector == 14)
		say(" at %s%lx", t->cr2 < place ? "-" : "+", t->cr2 < place ? place - t->cr2 : t->cr2 - place);
	if (verbose)
		say("\n");
	if (!good && odd++ < 20)
		say(" %s at %016lx: %s error %lx cr2 %016lx\n", name, place, vector_name(t->vector), t->error, t->cr2);
}

static void attempt(const char *name, const void *code, int ring, u64 rcx, u64 at)
{
	struct try t;

	fresh(&t);
	t.r.rcx = rcx;
	t.r.rbx = ring ? low(nothing) : (u64)nothing;
	pointer[0] = rcx << 32;
	t.code = code;
	(ring == 0 ? try0 : ring == 3 ? try3 : try32)(&t, code);
	tell(name, &t, ring, at);
}

static void behind(u64 va)
{
	map(root, va, low(mine), PG_P | PG_W);
	invlpg(va);
}

static void gone(u64 va)
{
	*entry(root, va, 1) = 0;
	invlpg(va);
}

/* Gates up to 31 are the guest's, the others are not there. */
static void idt_half(void)
{
	struct dtr r = { sizeof idt - 1, place - 32 * 16 };

	memcpy(mine + 4096 - 32 * 16, idt, 32 * 16);
	behind(place - 4096);
	asm volatile("lidt %0" : : "m"(r));
	attempt("idt", event, 0, 0, place + 0x11 * 16);
	attempt("idt", event, 3, 0, place + 0x11 * 16);
	attempt("idt", event32, 32, 0, place + 0x11 * 16);
	attempt("idt, done", nothing, 3, 0, place + 0x10 * 16);
	load_idt();
	gone(place - 4096);
}

/* Selectors from 0x60 on are not there. */
static void gdt_half(void)
{
	struct dtr r = { sizeof gdt - 1, place - 0x60 };

	memcpy(mine + 4096 - 0x60, gdt, 0x60);
	behind(place - 4096);
	asm volatile("lgdt %0" : : "m"(r));
	set_gate(0x31, stub(0x31), GATE_INT | GATE_DPL3, 0);
	idt[0x31] = gate(0x70, (u64)stub(0x31), GATE_INT | GATE_DPL3, 0);
	attempt("gdt, gate", event, 0, 0, place + 0x10);
	attempt("gdt, gate", event, 3, 0, place + 0x10);
	attempt("gdt, ds", ds_, 0, 0x60, place);
	attempt("gdt, ds", ds_, 3, 0x63, place);
	attempt("gdt, ds", ds32, 32, 0x63, place);
	attempt("gdt, fs", fs_, 0, 0x78, place + 0x18);
	attempt("gdt, fs", fs_, 3, 0x7b, place + 0x18);
	attempt("gdt, ss", ss_, 0, 0x68, place + 8);
	attempt("gdt, ss", ss_, 3, 0x6b, place + 8);
	attempt("gdt, jmp", jmp_, 0, 0x80, place + 0x20);
	attempt("gdt, jmp", jmp_, 3, 0x83, place + 0x20);
	attempt("gdt, call", call_, 0, 0x80, place + 0x20);
	attempt("gdt, call", call_, 3, 0x83, place + 0x20);
	attempt("gdt, ret", lret_, 0, 0x88, place + 0x28);
	attempt("gdt, ret", lret_, 3, 0x8b, place + 0x28);
	attempt("gdt, iret", iret_, 0, 0x90, place + 0x30);
	attempt("gdt, iret", iret_, 3, 0x93, place + 0x30);
	attempt("gdt, ltr", ltr_, 0, 0x98, place + 0x38);
	attempt("gdt, lldt", lldt_, 0, 0xa0, place + 0x40);
	attempt("gdt, lar", lar_, 0, 0xa8, place + 0x48);
	attempt("gdt, verw", verw_, 0, 0xa8, place + 0x48);
	load_gdt();
	idt[0x31] = gate(SEL_KCODE, (u64)stub(0x31), GATE_INT | GATE_DPL3, 0);
	gone(place - 4096);
}

static void ldt_there(void)
{
	system_descriptor(gdt + SEL_LDT / 8, place, 0xfff, 0x82);
	asm volatile("lldt %w0" : : "r"(SEL_LDT));
	attempt("ldt, ds", ds_, 0, 4, place);
	attempt("ldt, ds", ds_, 3, 7, place);
	attempt("ldt, ds", ds32, 32, 7, place);
	attempt("ldt, fs", fs_, 3, 0xffc | 3, place + 0xff8);
	attempt("ldt, ss", ss_, 3, 0xf, place + 8);
	attempt("ldt, jmp", jmp_, 0, 0x14, place + 0x10);
	attempt("ldt, jmp", jmp_, 3, 0x17, place + 0x10);
	attempt("ldt, iret", iret_, 3, 0x1f, place + 0x18);
	asm volatile("lldt %w0" : : "r"(0));
}

static void tss_at(u64 at, u16 limit)
{
	system_descriptor(gdt + SEL_TSS / 8, at, limit, 0x89);
	asm volatile("ltr %w0" : : "r"(SEL_TSS) : "memory");
}

static void tss_half(void)
{
	struct tss own = *tss;

	/* IST 7 is not there. */
	own.rsp[0] = ist_stack(2);
	memcpy(mine + 4096 - 0x54, &own, 0x54);
	behind(place - 4096);
	tss_at(place - 0x54, TSS_LIMIT_NO_BITMAP);
	set_gate(0x31, stub(0x31), GATE_INT | GATE_DPL3, 7);
	attempt("ist 7 of the tss", event, 0, 0, place);
	attempt("ist 7 of the tss", event, 3, 0, place);
	/* The I/O bitmap is not there. */
	own.iomap = 104;
	memcpy(mine + 4096 - 104, &own, 104);
	tss_at(place - 104, TSS_LIMIT_BITMAP);
	attempt("bitmap", in_, 3, 0, place + 0x10);
	gone(place - 4096);
	/* RSP0 is not there, the ISTs are. */
	memcpy(mine, (u8 *)&own + 0x24, 104 - 0x24);
	behind(place + 4096);
	tss_at(place + 4096 - 0x24, TSS_LIMIT_NO_BITMAP);
	set_gate(0x31, stub(0x31), GATE_INT | GATE_DPL3, 0);
	attempt("rsp0 of the tss", event, 3, 0, place + 4096 - 0x20);
	attempt("rsp0 of the tss", event32, 32, 0, place + 4096 - 0x20);
	attempt("rsp0 of the tss, #BP", trap, 3, 0, place + 4096 - 0x20);
	gone(place + 4096);
	load_tss(TSS_LIMIT_NO_BITMAP);
}

/* The frame is to be pushed there. */
static void stacks(void)
{
	struct tss *own = (struct tss *)(mine + 0x200);

	*own = *tss;
	own->ist[6] = place + 0x800;
	tss_at((u64)own, TSS_LIMIT_NO_BITMAP);
	set_gate(0x31, stub(0x31), GATE_INT | GATE_DPL3, 7);
	attempt("ist 7", event, 0, 0, place + 0x7f8);
	attempt("ist 7", event, 3, 0, place + 0x7f8);
	attempt("ist 7", event32, 32, 0, place + 0x7f8);
	set_gate(0x31, stub(0x31), GATE_INT | GATE_DPL3, 0);
	own->rsp[0] = place + 0x1000;
	attempt("rsp0", event, 3, 0, place + 0xff8);
	attempt("rsp0", event32, 32, 0, place + 0xff8);
	/* #GP whose frame cannot be pushed: #PF after it. */
	attempt("rsp0, #GP", in_, 3, 0, place + 0xff8);
	/* A call gate. */
	struct gate g = gate(SEL_KCODE, (u64)nothing, GATE_CALL | GATE_DPL3, 0);

	gdt[11] = g.lo;
	gdt[12] = g.hi;
	attempt("call gate", call_, 3, 0x5b, place + 0xff8);
	load_tss(TSS_LIMIT_NO_BITMAP);
}

int main(void)
{
	root = new_root();
	use(root);
	mine = page();
	set_gate(14, stub(14), GATE_INT, 1);
	set_gate(3, stub(3), GATE_INT | GATE_DPL3, 0);
	set_gate(0x31, stub(0x31), GATE_INT | GATE_DPL3, 0);
	for (u32 i = 0; i < sizeof places / sizeof *places; i++) {
		place = places[i];
		verbose = i == 0;
		idt_half();
		gdt_half();
		ldt_there();
		tss_half();
		stacks();
	}
	check("nothing there", odd == 0);
	return 0;
}
