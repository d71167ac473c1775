/* Segments that are not flat: odd bases, small limits, expand-down, 16-bit code, absent ones. Accesses beyond a limit or against a type are not
 * among it, since QEMU, the reference here, lets them pass; tests/guests has them, compared with Bochs. */
#include "kernel.h"

static u8 bytes[64] = "0123456789abcdefghijklmnopqrstuvwxyz";
extern u8 odd_code[], narrow_code[], narrow_code_end[];

/* Called by far calls: where it is by its own segment's offsets; and in 16 bits, where additions wrap. */
asm(".text\n"
	"odd_code: call 1f\n1: pop %eax\nlret\n"
	"narrow_code: .code16\nmov $0xffff, %ax\nadd $1, %ax\nlahf\npushf\npop %dx\nmov $0x1234, %bx\npush %bx\npop %cx\nlretl\nnarrow_code_end: .code32\n");

static u32 at(u32 offset)
{
	u32 value = 0;
	asm volatile("movzbl %%fs:(%1), %0" : "=r"(value) : "r"(offset));
	return value;
}

static void far_call(u32 offset, u32 selector, u32 *a, u32 *c)
{
	struct { u32 offset; u16 selector; } target = { offset, selector };
	asm volatile("lcall *%2" : "=a"(*a), "=c"(*c) : "m"(target) : "edx", "ebx", "cc", "memory");
}

#define LOAD_FS(selector) TRY3("mov %w1, %%fs", selector, 0)

void test_segments(void)
{
	enum { ODD = SPARE, ODDC = SPARE + 8, DOWN = SPARE + 16, NARROW = SPARE + 24, ABSENT = SPARE + 32, READ = SPARE + 40, STACK = SPARE + 48 };
	u32 a, c;

	test("segment-odd-base");
	gdt_set(ODD, (u32)bytes + 1, 9, 0x492);
	want("load", LOAD_FS(ODD), ~0u);
	want("first", at(0), '1');
	want("last", at(9), 'a');
	want("a write", TRY3("movb %%al, %%fs:3", '#', 0), ~0u);
	want("is there", bytes[4], '#');
	u32 letter, from = 0, n = 3;
	asm volatile("cld; rep fs lodsb" : "=a"(letter), "+S"(from), "+c"(n));
	want("string", letter & 0xff, '3');

	test("segment-odd-code");
	gdt_set(ODDC, (u32)odd_code - 0x1001, 0x1020, 0x49a);
	far_call(0x1001, ODDC, &a, &c);
	want("offset", a, 0x1006);

	test("segment-expand-down");
	gdt_set(DOWN, (u32)bytes, 0x0f, 0x496);
	LOAD_FS(DOWN);
	want("inside", at(0x10), 'g');

	test("segment-16-bit");
	gdt_set(NARROW, (u32)narrow_code, narrow_code_end - narrow_code - 1, 0x09a);
	far_call(0, NARROW, &a, &c);
	want("sum", a & 0xff, 0);
	want("flags", a >> 8 & 0xd5, 0x55);
	want("pushed", c & 0xffff, 0x1234);

	test("segment-stack");
	/* A stack of 32 bytes at an odd base, without interrupts: C cannot be called on it. */
	gdt_set(STACK, (u32)bytes + 1, 31, 0x492);
	u32 popped, left;
	asm volatile("mov %%esp, %%edi; mov %%ss, %%esi; mov %w2, %%ss; mov $32, %%esp\n"
		"push $0x11223344; pushw $0x5566; popw %%ax; pop %0; mov %%esp, %1; push $0x77889900; mov %%esi, %%ss; mov %%edi, %%esp"
		: "=&r"(popped), "=&r"(left) : "r"(STACK) : "eax", "esi", "edi", "memory");
	want("popped", popped, 0x11223344);
	want("pointer", left, 32);
	want("in memory", *(u32 *)(bytes + 29), 0x77889900);

	test("segment-refused");
	gdt_set(ABSENT, 0, 0xfffff, 0xc12);
	gdt_set(READ, (u32)bytes, 63, 0x490);
	want("absent", LOAD_FS(ABSENT), 11);
	want("its error", caught.error, ABSENT);
	want("absent stack", TRY3("mov %w1, %%ss", ABSENT, 0), 12);
	want("its error", caught.error, ABSENT);
	want("beyond the table", LOAD_FS(0x1000), 13);
	want("its error", caught.error, 0x1000);
	want("a TSS", LOAD_FS(TSS_MAIN), 13);
	want("read-only stack", TRY3("mov %w1, %%ss", READ, 0), 13);
	LOAD_FS(READ);
	want("read-only read", at(0), '0');
	LOAD_FS(0);

	test("segment-questions");
	u32 rights = 0, limit = 0;
	asm("lar %1, %0" : "=r"(rights) : "r"(DOWN));
	asm("lsl %1, %0" : "=r"(limit) : "r"(KDATA));
	want("rights", rights & 0xf0ff00, 0x409700);
	want("limit", limit, 0xffffffff);
	asm volatile("verw %w1; setz %b0; movzbl %b0, %0" : "=q"(a) : "r"(READ));
	want("writable", a, 0);
	asm volatile("verr %w1; setz %b0; movzbl %b0, %0" : "=q"(a) : "r"(READ));
	want("readable", a, 1);
}
