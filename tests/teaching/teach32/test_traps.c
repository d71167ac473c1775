/* All 256 vectors by INT n, made by code that is written anew for each; and the exceptions with what they leave. */
#include "kernel.h"

static u8 code[8];
static struct frame seen;
static volatile u32 count;

static void note(struct frame *f)
{
	seen = *f;
	count++;
}

/* Single steps: counted, until the handler takes the flag away. */
static volatile u32 steps;
static void step(struct frame *f)
{
	if (++steps == 5)
		f->eflags &= ~0x100;
}

static int pushes_error(u32 v) { return v == 8 || (v >= 10 && v <= 14) || v == 17; }

static void all_vectors(void)
{
	u32 sum = 0, wrong = 0;

	test("vectors");
	for (u32 v = 0; v < 256; v++) {
		/* Those with an error code would miss it after INT n. */
		if (pushes_error(v))
			continue;
		handler *before = handlers[v];
		handlers[v] = note;
		code[0] = 0xcd;
		code[1] = v;
		code[2] = 0xc3;
		((void (*)(void))code)();
		handlers[v] = before;
		sum += seen.vector;
		if (seen.vector != v || seen.eip != (u32)code + 2 || seen.cs != KCODE)
			wrong++;
	}
	want("wrong ones", wrong, 0);
	want("taken", count, 249);
	want("their sum", sum, 255 * 256 / 2 - 8 - 10 - 11 - 12 - 13 - 14 - 17);

	test("vector-absent");
	idt_gate(0x90, KCODE, 0, 0x0e);
	want("absent gate", TRY("int $0x90"), 11);
	want("its error", caught.error, 0x90 * 8 + 2);
	idt_gate(0x90, 0, 0, 0x8e);
	want("null segment", TRY("int $0x90"), 13);
	want("its error", caught.error, 0);
	idt_gate(0x90, KDATA, 0, 0x8e);
	want("data segment", TRY("int $0x90"), 13);
	want("its error", caught.error, KDATA);
	idt_gate(0x90, KCODE, 0, 0x82);
	want("no gate", TRY("int $0x90"), 13);
	want("its error", caught.error, 0x90 * 8 + 2);
}

/* TRY for a copy, whose registers the compiler must not use. */
static u32 try_copy(u32 from, u32 to, u32 n)
{
	caught.vector = ~0u;
	asm volatile("movl $77f, %0; cld; rep movsb\n77:" : "=m"(resume_at), "+S"(from), "+D"(to), "+c"(n) : : "memory");
	resume_at = 0;
	return caught.vector;
}

static void exceptions(void)
{
	u32 here;

	test("exceptions");
	want("divide", TRY3("xor %%edx, %%edx; div %%ecx", 1, 0), 0);
	want("overflowing divide", TRY3("mov $5, %%edx; idiv %%ecx", 1, 2), 0);
	want("breakpoint", TRY("int3"), 3);
	want("overflow", TRY("mov $0x7fffffff, %%eax; inc %%eax; into"), 4);
	u32 bounds[2] = { 3, 7 };
	want("bound", TRY3("bound %%eax, (%%ecx)", 8, bounds), 5);
	want("within bounds", TRY3("bound %%eax, (%%ecx)", 7, bounds), ~0u);
	want("undefined", TRY("ud2"), 6);
	want("undefined lock", TRY(".byte 0xf0, 0x89, 0xc0"), 6);
	want("coprocessor", TRY("mov %%cr0, %%eax; or $8, %%eax; mov %%eax, %%cr0; fnop"), 7);
	asm volatile("clts");
	want("descriptor", TRY3("mov %w1, %%es", 0x777, 0), 13);
	want("its error", caught.error, 0x774);
	want("page", TRY("mov 0x30000000, %%eax"), 14);
	want("its error", caught.error, 0);
	want("its address", read_cr2(), 0x30000000);
	want("page write", TRY("movl $1, 0x30000ffe"), 14);
	want("its error", caught.error, 2);
	want("its address", read_cr2(), 0x30000ffe);
	want("page jump", TRY3("jmp *%1", 0x30000123, 0), 14);
	want("its address", read_cr2(), 0x30000123);
	want("its EIP", caught.eip, 0x30000123);

	test("exception-restart");
	/* A string that runs into the hole stops there with its registers so far. */
	u32 *entry = page_entry(kernel_directory, BASE + 0xf00000, 0);
	u32 whole = *entry;
	*entry = 0;
	invlpg(BASE + 0xf00000);
	want("copy", try_copy(BASE + 0xefffc0, BASE + 0xe00000, 0x100), 14);
	want("left", caught.ecx, 0x100 - 0x40);
	want("source", caught.esi, BASE + 0xf00000);
	*entry = whole;
	invlpg(BASE + 0xf00000);

	test("single-step");
	handlers[1] = step;
	handlers[0x91] = note;
	steps = 0;
	asm volatile("pushf; orl $0x100, (%%esp); popf; nop; nop; nop; mov $3, %0; nop; nop; nop" : "=r"(here) : : "memory");
	want("steps", steps, 5);
	steps = 0;
	/* INT n clears the flag for its handler, POP SS hides one step. */
	asm volatile("pushf; orl $0x100, (%%esp); popf; push %%ss; pop %%ss; nop; int $0x91; nop; nop; nop; nop; nop" : : : "memory");
	want("steps around INT", steps, 5);
	handlers[1] = 0;
}

void test_traps(void)
{
	all_vectors();
	exceptions();
	handlers[0x91] = 0;
}
