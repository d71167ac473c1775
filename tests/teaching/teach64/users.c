/* A program in ring 3 by SYSRET's segments: system calls, faults that come back to it, the timer while it runs. */
#include "kernel.h"

enum { CODE = 0x1000000, STACK = 0x2000000 };

extern u8 user_image[], user_image_end[];
u64 user_enter(u64 rip, u64 rsp);
__attribute__((noreturn)) void user_leave(u64 status);

static u64 resume;
static u32 faults;

/* The program told where it goes on after its next fault: there RAX is vector and error. */
int user_fault(struct frame *f)
{
	if (!resume)
		return 0;
	faults++;
	f->rax = f->vector << 16 | (f->error & 0xffff);
	f->rip = resume;
	f->rflags &= ~0x100ul;
	resume = 0;
	return 1;
}

u64 system_call(u64 number, u64 a, u64 b, u64 c)
{
	switch (number) {
	case 1:
		asm volatile("cli");
		user_leave(a);
	case 2:
		for (u64 i = 0; i < b; i++)
			put(((char *)a)[i]);
		return b;
	case 3:
		resume = a;
		return 0;
	case 4:
		return ticks;
	case 5:
		want((char *)a, b, c);
		return 0;
	case 6:
		test((char *)a);
		return 0;
	case 7: {
		/* Where the call's stack is: known to be the kernel's, with interrupts on. */
		u64 flags, rsp;
		asm volatile("pushf; pop %0; mov %%rsp, %1" : "=r"(flags), "=r"(rsp));
		return (flags >> 9 & 1) | (rsp >> 63) << 1;
	}
	}
	return -1;
}

void test_users(void)
{
	u64 length = user_image_end - user_image;

	test("users");
	/* The program's pages take the place of some of the identity map's, */
	extern u64 level4[], first[];
	u64 low = level4[0], *top = direct(page_new()), *table = direct(page_new());
	/* in tables of the low half's own, so that the high names of the same memory stay whole. */
	u64 *old3 = direct(low & 0xffffffffff000);
	memcpy(top, old3, PAGE);
	memcpy(table, first, PAGE);
	top[0] = ((u64)table - DIRECT) | PRESENT | WRITE | USER;
	table[CODE >> 21] = table[(STACK - 1) >> 21] = table[STACK >> 21] = 0;
	level4[0] = ((u64)top - DIRECT) | PRESENT | WRITE | USER;
	asm volatile("mov %0, %%cr3" : : "r"(read_cr3()) : "memory");

	for (u64 at = 0; at < length; at += PAGE) {
		u64 page = page_new();
		memcpy(direct(page), user_image + at, length - at < PAGE ? length - at : PAGE);
		page_map(CODE + at, page | PRESENT | WRITE | USER);
	}
	for (u64 at = STACK - 4 * PAGE; at < STACK; at += PAGE)
		page_map(at, page_new() | PRESENT | WRITE | USER | NX);
	lapic_timer(2000000, 1);
	want("status", user_enter(CODE, STACK), 42);
	lapic_timer(0, 1);
	want("faults", faults, 19);
	level4[0] = low;
	asm volatile("mov %0, %%cr3" : : "r"(read_cr3()) : "memory");
}
