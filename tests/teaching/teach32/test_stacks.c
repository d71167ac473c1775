/* Stacks at odd addresses and over the ends of pages: calls, interrupts, ENTER and PUSHA, system calls of the kernel to itself. */
#include "kernel.h"

static u8 memory[3 * PAGE] __attribute__((aligned(PAGE)));
static volatile u32 traps, trap_esp;

static void note(struct frame *f)
{
	traps++;
	/* What PUSHA pushed: ESP behind the trap's five words. */
	trap_esp = f->unused;
}

static u32 recursive(u32 n)
{
	volatile u32 here = n;
	return n ? recursive(n - 1) + here : 0;
}

/* Calls F(ARGUMENT) on the stack that ends at TOP. */
static u32 on(u8 *top, u32 (*f)(u32), u32 argument)
{
	u32 result;
	asm volatile("mov %%esp, %%ebx; mov %1, %%esp; push %3; call *%2; mov %%ebx, %%esp"
		: "=a"(result) : "S"(top), "D"(f), "r"(argument) : "ebx", "ecx", "edx", "memory");
	return result;
}

static u32 many(u32 n)
{
	u32 sum = 0, word, before, wrong = 0;

	for (u32 i = 0; i < n; i++) {
		asm volatile("mov %%esp, %0; int $0x93" : "=r"(before) : : "memory");
		asm volatile("pusha; popa; enter $16, $3; leave; pushf; popf; pushw $5; popw %%ax; movzwl %%ax, %0" : "=a"(word));
		sum += word;
		wrong += before - trap_esp != 20;
	}
	return sum + recursive(n) + 1000 * wrong;
}

void test_stacks(void)
{
	test("stack-odd");
	handlers[0x93] = note;
	for (u32 odd = 0; odd < 4; odd++) {
		traps = 0;
		want("sums", on(memory + 2 * PAGE + 512 + odd, many, 20), 5 * 20 + 210);
		want("traps", traps, 20);
	}

	test("stack-over-pages");
	/* Each of 64 tops around a page's end. */
	u32 wrong = 0;
	for (u32 i = 0; i < 64; i++)
		wrong += on(memory + 2 * PAGE - 20 + i, many, 3) != 15 + 6;
	want("wrong sums", wrong, 0);

	test("stack-in-low-map");
	/* The same stack by its low name, with interrupts on it. */
	pic_mask(0xfffe);
	u32 before = ticks;
	asm volatile("sti");
	do
		wrong += on((u8 *)low(memory) + 2 * PAGE + 3, many, 30) != 150 + 465;
	while (ticks - before < 3);
	asm volatile("cli");
	pic_mask(0xffff);
	want("wrong sums", wrong, 0);
	handlers[0x93] = 0;
}
