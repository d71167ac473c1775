/* Task switching by hardware: JMP, CALL and IRET nested in it, INT through a task gate, and a double fault's own task, which mends the
 * stack that led to it. */
#include "kernel.h"

static struct tss a, b, df;
static u8 stack_a[2048] __attribute__((aligned(16))), stack_b[2048] __attribute__((aligned(16))), stack_df[2048] __attribute__((aligned(16)));
static volatile u32 steps, order, seen_tr, seen_flags, seen_link, seen_error, seen_eip, seen_busy, seen_refused;

static u32 flags(void) { u32 v; asm volatile("pushf; pop %0" : "=r"(v)); return v; }
static u32 task(void) { u32 v = 0; asm volatile("str %w0" : "+r"(v)); return v; }
static u32 type(u32 selector) { return gdt[selector / 8] >> 40 & 0x1f; }
static void mark(u32 digit) { order = order * 10 + digit; steps++; }

/* Entered by JMP: goes back by JMP, and is then where it left. */
static void task_a(void)
{
	for (u32 round = 0;; round++) {
		mark(1);
		seen_tr = task();
		seen_flags = flags();
		asm volatile("ljmp %0, $0" : : "i"(TSS_MAIN) : "memory");
		mark(2);
		asm volatile("ljmp %0, $0" : : "i"(TSS_MAIN) : "memory");
	}
}

/* Entered by CALL or INT: IRET goes back, and the next call comes behind it. */
static void task_b(void)
{
	for (;;) {
		mark(3);
		seen_tr = task();
		seen_flags = flags();
		seen_link = b.link;
		asm volatile("iret" : : : "memory");
		mark(4);
		/* One deeper: a task that calls another. */
		asm volatile("lcall %0, $0" : : "i"(TSS_A) : "memory");
		mark(6);
		asm volatile("iret" : : : "memory");
	}
}

/* Called by task B: the two before it are busy, and nobody may go there but by IRET. */
static void task_c(void)
{
	mark(1);
	seen_link = a.link;
	seen_busy = type(TSS_B) << 8 | type(TSS_MAIN);
	seen_refused = TRY("ljmp $0x28, $0");
	seen_error = caught.error;
	asm volatile("iret" : : : "memory");
}

/* The error code is on its stack; the task that faulted is mended through its TSS. */
static __attribute__((used, regparm(1))) void task_df(u32 error)
{
	seen_error = error;
	seen_link = df.link;
	seen_eip = tss.eip;
	tss.eip = resume_at;
	tss.esp = tss.ebx;
	mark(5);
}
asm(".text\ndouble_fault: pop %eax\ncall task_df\niret\njmp double_fault\n");
extern u8 double_fault[];

static void prepare(struct tss *t, u32 selector, void (*entry)(void), u8 *stack)
{
	memset(t, 0, sizeof *t);
	t->cr3 = read_cr3();
	t->eip = (u32)entry;
	t->esp = (u32)stack + 2048 - 4;
	t->eflags = 2;
	t->cs = KCODE;
	t->ds = t->es = t->fs = t->gs = t->ss = KDATA;
	t->iomap = sizeof *t;
	gdt_set(selector, (u32)t, sizeof *t - 1, 0x89);
}

void test_tasks(void)
{
	prepare(&a, TSS_A, task_a, stack_a);
	prepare(&b, TSS_B, task_b, stack_b);
	prepare(&df, TSS_DF, (void (*)(void))double_fault, stack_df);
	tss.cr3 = read_cr3();

	test("task-jump");
	asm volatile("ljmp %0, $0" : : "i"(TSS_A) : "memory");
	want("its TR", seen_tr, TSS_A);
	want("its NT", seen_flags & NESTED, 0);
	want("here again", task(), TSS_MAIN);
	want("main busy", type(TSS_MAIN), 11);
	want("A not", type(TSS_A), 9);
	asm volatile("ljmp %0, $0" : : "i"(TSS_A) : "memory");
	asm volatile("ljmp %0, $0" : : "i"(TSS_A) : "memory");
	want("order", order, 121);

	test("task-call");
	order = 0;
	asm volatile("lcall %0, $0" : : "i"(TSS_B) : "memory");
	want("its TR", seen_tr, TSS_B);
	want("its NT", seen_flags & NESTED, NESTED);
	want("its link", seen_link, TSS_MAIN);
	want("here again", task(), TSS_MAIN);
	want("NT here", flags() & NESTED, 0);
	want("B not busy", type(TSS_B), 9);
	want("order", order, 3);

	test("task-nested");
	prepare(&a, TSS_A, task_c, stack_a);
	order = 0;
	asm volatile("lcall %0, $0" : : "i"(TSS_B) : "memory");
	want("order", order, 416);
	want("A's link", seen_link, TSS_B);
	want("busy ones", seen_busy, 0x0b0b);
	want("a jump to a busy one", seen_refused, 13);
	want("its error", seen_error, TSS_MAIN);
	want("none left busy", type(TSS_B) << 8 | type(TSS_A), 0x909);
	want("NT here", flags() & NESTED, 0);

	test("task-gate");
	prepare(&b, TSS_B, task_b, stack_b);
	idt_gate(0x92, TSS_B, 0, 0x85);
	order = 0;
	asm volatile("int $0x92" : : : "memory");
	want("order", order, 3);
	want("link", seen_link, TSS_MAIN);
	want("EIP behind INT", tss.eip != 0, 1);
	/* A gate in the GDT, too. */
	gdt[SPARE / 8] = (u64)0x8500 << 32 | TSS_A << 16;
	prepare(&a, TSS_A, task_a, stack_a);
	order = 0;
	asm volatile("ljmp %0, $0" : : "i"(SPARE) : "memory");
	want("order", order, 1);

	test("task-refused");
	gdt_set(SPARE, (u32)&a, 102, 0x89);
	want("short TSS", TRY("ljmp $0x48, $0"), 10);
	want("its error", caught.error, SPARE);
	gdt_set(SPARE, (u32)&a, 103, 0x09);
	want("absent TSS", TRY("ljmp $0x48, $0"), 11);
	want("its error", caught.error, SPARE);

	test("task-double-fault");
	/* A stack in nothing: the push's page fault cannot be delivered, either. */
	idt_gate(8, TSS_DF, 0, 0x85);
	order = 0;
	asm volatile("mov %%esp, %%ebx; movl $1f, %0; mov $0x30001000, %%esp; .globl df_site\ndf_site: push %%eax; ud2\n1:" : "=m"(resume_at) : : "ebx", "memory");
	resume_at = 0;
	extern u8 df_site[];
	want("order", order, 5);
	want("error", seen_error, 0);
	want("link", seen_link, TSS_MAIN);
	want("site", seen_eip, (u32)df_site);
	want("address", read_cr2() >> 12, 0x30000);
	want("here again", task(), TSS_MAIN);
}
