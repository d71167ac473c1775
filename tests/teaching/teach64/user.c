/* The program in ring 3 of long mode. */
typedef unsigned int u32;
typedef unsigned char u8;
typedef unsigned long u64;

static u64 call(u64 number, u64 a, u64 b, u64 c)
{
	asm volatile("syscall" : "+a"(number) : "D"(a), "S"(b), "d"(c) : "rcx", "r11", "r8", "r9", "r10", "memory");
	return number;
}
static void want(const char *what, u64 got, u64 wanted) { call(5, (u64)what, got, wanted); }
static void test(const char *name) { call(6, (u64)name, 0, 0); }

int main(void);
asm(".section .start, \"ax\"\n.globl _start\n_start: call main\nmov %eax, %edi\nmov $1, %eax\nsyscall\n.text");

/* Vector and error of the fault that WHAT leads to. The stack pointer and what C keeps are as before, whatever it did. */
#define FAULT(what) ({ \
	u64 a_; \
	asm volatile("lea 77f(%%rip), %%rdi; mov $3, %%eax; syscall; mov %%rsp, %%rbx; xor %%eax, %%eax\n\t" what "\n77: mov %%rbx, %%rsp" \
		: "=a"(a_) : : "rbx", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "memory", "cc"); a_; })

static u8 code[64] = { 0xb8, 1, 0, 0, 0, 0xc3 };

static void forbidden(void)
{
	test("users-forbidden");
	want("cli", FAULT("cli"), 0xd0000);
	want("hlt", FAULT("hlt"), 0xd0000);
	want("out", FAULT("mov $0x3f8, %%edx; out %%al, %%dx"), 0xd0000);
	want("mov cr8", FAULT("mov %%cr8, %%rax"), 0xd0000);
	want("rdmsr", FAULT("mov $0xc0000080, %%ecx; rdmsr"), 0xd0000);
	want("swapgs", FAULT("swapgs"), 0xd0000);
	want("sysret", FAULT("sysretq"), 0xd0000);
	want("int 40", FAULT("int $0x40"), 0xd0202);
	want("kernel's stack segment", FAULT("mov $0x10, %%eax; mov %%eax, %%ss"), 0xd0010);
	want("read kernel", FAULT("mov 0xffffffff80100000, %%rax"), 0xe0005);
	want("write kernel", FAULT("mov %%rax, 0xffffffff80100000"), 0xe0007);
	want("read identity map", FAULT("mov 0x100000, %%rax"), 0xe0005);
	want("read nothing", FAULT("mov 0x50000000, %%rax"), 0xe0004);
	want("run stack", FAULT("push $0xc3; jmp *%%rsp"), 0xe0015);
	want("run kernel", FAULT("mov $0xffffffff80100000, %%rax; jmp *%%rax"), 0xe0015);
	want("not canonical", FAULT("mov $1, %%eax; shl $63, %%rax; mov (%%rax), %%rax"), 0xd0000);
	want("undefined", FAULT("ud2"), 0x60000);
	want("divide", FAULT("xor %%edx, %%edx; xor %%ecx, %%ecx; div %%rcx"), 0);
	want("int3", FAULT("int3"), 0x30000);
}

int main(void)
{
	static const char hello[] = "a program in ring 3 of long mode\n";
	u32 cs, ss;

	call(2, (u64)hello, sizeof hello - 1, 0);
	asm("mov %%cs, %0; mov %%ss, %1" : "=r"(cs), "=r"(ss));
	want("CS", cs, 0x2b);
	want("SS", ss, 0x23);
	want("unknown call", call(1000, 0, 0, 0), -1u);
	want("kernel's stack and interrupts", call(7, 0, 0, 0), 3);
	/* SYSCALL leaves RIP and flags in RCX and R11, all else stays. */
	u64 rip, flags, there, kept;
	asm volatile("mov $0x1234567, %%r15; mov $4, %%eax; stc; syscall; 1: lea 1b(%%rip), %2; mov %%rcx, %0; mov %%r11, %1; mov %%r15, %3"
		: "=&r"(rip), "=&r"(flags), "=&r"(there), "=&r"(kept) : : "rax", "rcx", "r11", "r15", "rdi", "rsi", "rdx", "r8", "r9", "r10", "memory", "cc");
	want("RCX", rip, there);
	want("R11", flags & 0x301, 0x201);
	want("R15", kept, 0x1234567);
	forbidden();

	test("users-self-modifying");
	u64 sum = 0;
	for (u32 i = 0; i < 200; i++) {
		*(volatile u32 *)(code + 1) = i;
		sum += ((u32 (*)(void))code)();
	}
	want("sum", sum, 199 * 100);

	test("users-timer");
	/* Registers and red zone stay over the timer's interrupts. */
	u64 x = 0x123456789abcdef0, y = ~x, begin = call(4, 0, 0, 0), wrong = 0;
	do {
		/* Twice through the red zone and each other's register. */
		for (u32 i = 0; i < 20000; i++)
			asm volatile("mov %0, -16(%%rsp); xchg %0, %1; mov %0, -24(%%rsp); mov -16(%%rsp), %0; mov -24(%%rsp), %1" : "+r"(x), "+r"(y) : : "memory");
		wrong += x != 0x123456789abcdef0 || y != ~x;
	} while (call(4, 0, 0, 0) - begin < 5);
	want("wrong registers", wrong, 0);
	test("users-end");
	return 42;
}
