/* Long mode as it was entered, exceptions, and the stacks that they take. */
#include "kernel.h"

static volatile u64 seen_rsp, seen_old;
static u8 big[4096] __attribute__((aligned(64)));

static void note(struct frame *f)
{
	seen_rsp = (u64)(f + 1);
	seen_old = f->rsp;
}

/* Goes on where it is told, on the stack from before. */
static volatile u32 doubles;
static u64 good_rsp;
static void double_fault(struct frame *f)
{
	doubles++;
	seen_rsp = (u64)(f + 1);
	f->rip = resume_at;
	f->rsp = good_rsp;
}

void test_cpu(void)
{
	test("long-mode");
	want("EFER", rdmsr(0xc0000080) & 0xd01, 0xd01);
	u64 here;
	asm("lea 0(%%rip), %0" : "=r"(here));
	want("high", here >> 32, 0xffffffff);
	want("same memory below", *(u32 *)(here - BASE), *(u32 *)here);
	want("and above", *(u32 *)direct(here - BASE), *(u32 *)here);
	/* Code run by its other two names. */
	extern u8 named[];
	u64 at;
	asm volatile("jmp 1f; named: lea named(%%rip), %0; ret; 1: call *%1" : "=&a"(at) : "r"((u64)named - BASE));
	want("by the low name", at, (u64)named - BASE);
	asm volatile("call *%1" : "=&a"(at) : "r"(direct((u64)named - BASE)));
	want("by the direct name", at >> 32, DIRECT >> 32);

	test("exceptions");
	want("divide", TRY3("xor %%edx, %%edx; divq %%rcx", 1, 0), 0);
	want("breakpoint", TRY("int3"), 3);
	want("undefined", TRY("ud2"), 6);
	want("no PUSHA", TRY(".byte 0x60"), 6);
	want("not canonical", TRY3("mov (%%rax), %%rax", 0x800000000000, 0), 13);
	want("its error", caught.error, 0);
	want("selector", TRY3("mov %w1, %%es", 0x777, 0), 13);
	want("its error", caught.error, 0x774);
	want("page", TRY3("mov (%%rax), %%rax", 0xffffc00000000123, 0), 14);
	want("its address", read_cr2() == 0xffffc00000000123, 1);
	want("its error", caught.error, 0);
	want("page write", TRY3("mov %%rax, (%%rax)", 0xffffc00000000123, 0), 14);
	want("its error", caught.error, 2);

	test("interrupt-stacks");
	/* Without IST the same stack, aligned down to 16. */
	handlers[0x91] = note;
	u32 wrong = 0;
	for (u32 i = 0; i < 16; i++) {
		u64 top = (u64)big + 4000 + i;
		asm volatile("mov %%rsp, %%rbx; mov %0, %%rsp; int $0x91; mov %%rbx, %%rsp" : : "r"(top) : "rbx", "memory");
		wrong += seen_old != top || seen_rsp != (top & ~15ul);
	}
	want("wrong ones", wrong, 0);
	idt_ist(0x91, 3);
	asm volatile("int $0x91" : : : "memory");
	want("IST 3", seen_rsp == (u64)ist_stacks[2] + 2048, 1);
	idt_ist(0x91, 0);

	test("double-fault");
	handlers[8] = double_fault;
	asm volatile("movq $1f, %0; mov %%rsp, %1; movabs $0xffffc00000001000, %%rsp; push %%rax; ud2; 1:" : "=m"(resume_at), "=m"(good_rsp) : : "memory");
	resume_at = 0;
	want("once", doubles, 1);
	want("IST 1", seen_rsp == (u64)ist_stacks[0] + 2048, 1);
	want("CR2", (u32)read_cr2(), 0xff8);
	handlers[8] = 0;
}
