/* The program in ring 3: what it may, what it may not, and that its memory is its own. */
typedef unsigned int u32;
typedef unsigned char u8;

static u32 call(u32 number, u32 b, u32 c, u32 d)
{
	u32 a = number;
	asm volatile("int $0x80" : "+a"(a) : "b"(b), "c"(c), "d"(d) : "memory");
	return a;
}
static void leave(u32 status) { call(1, status, 0, 0); }
static u32 fork(void) { return call(4, 0, 0, 0); }
static u32 wait(u32 pid) { return call(5, pid, 0, 0); }
static void want(const char *what, u32 got, u32 wanted) { call(8, (u32)what, got, wanted); }
static void test(const char *name) { call(10, (u32)name, 0, 0); }
static void say(const char *s)
{
	u32 n = 0;
	while (s[n])
		n++;
	call(2, (u32)s, n, 0);
}

int main(void);
asm(".section .start, \"ax\"\n.globl _start\n_start: call main\nmov %eax, %ebx\nmov $1, %eax\nint $0x80\n.text");

static volatile u32 shared[3000] = { 1 };
static u8 code[32] = { 0xb8, 1, 0, 0, 0, 0xc3 };

/* What a child's end is when it does this. */
#define CHILD(name, what, status) do { u32 pid_ = fork(); if (!pid_) { what; leave(99); } want(name, wait(pid_), status); } while (0)
#define FAULT(vector, error) (0x10000 | (vector) << 8 | (error))

static void memory(void)
{
	test("users-fork");
	for (u32 i = 0; i < 3000; i++)
		shared[i] = i;
	u32 pid = fork();
	if (!pid) {
		u32 sum = 0;
		for (u32 i = 0; i < 3000; i++)
			sum += shared[i] - i;
		for (u32 i = 0; i < 3000; i += 700)
			shared[i] = 0xdead;
		for (u32 i = 0; i < 3000; i += 700)
			sum += shared[i] != 0xdead;
		leave(sum ? 1 : 7);
	}
	shared[5] = 0x1111;
	want("child's status", wait(pid), 7);
	u32 wrong = 0;
	for (u32 i = 0; i < 3000; i++)
		wrong += shared[i] != (i == 5 ? 0x1111 : i);
	want("changed here", wrong, 0);
	/* Generations: each writes the same page. */
	shared[0] = 1;
	pid = fork();
	if (!pid) {
		shared[0]++;
		u32 grandchild = fork();
		if (!grandchild) {
			shared[0]++;
			leave(shared[0]);
		}
		u32 theirs = wait(grandchild);
		leave(theirs * 16 + shared[0]);
	}
	want("generations", wait(pid), 0x32);
	want("and the first", shared[0], 1);
	want("no child", wait(12345), -1u);

	test("users-demand");
	volatile u32 *heap = (u32 *)0x10000000;
	u32 sum = 0;
	for (u32 i = 0; i < 0x10000 / 4; i += 1024)
		sum += heap[i];
	want("zeros", sum, 0);
	/* A write over a page's end, with neither page there. */
	*(volatile u32 *)0x1001fffe = 0x12345678;
	want("crossing", *(volatile u32 *)0x1001fffe, 0x12345678);
	want("its second half", *(volatile u32 *)0x10020000, 0x1234);
	/* A string over several. */
	u32 to = 0x10030ff0, from = 0x08048000, n = 0x2020;
	asm volatile("cld; rep movsb" : "+D"(to), "+S"(from), "+c"(n) : : "memory");
	want("string's end", to, 0x10033010);
	want("its first byte", *(u8 *)0x10030ff0, *(u8 *)0x08048000);
	want("its last byte", *(u8 *)0x1003300f, *(u8 *)(0x0804a01f));
	/* The stack grows, through a push that faults. */
	asm volatile("mov %%esp, %%ecx; sub $0x5000, %%esp; and $0xfffff000, %%esp; push %0; mov (%%esp), %0; mov %%ecx, %%esp" : "+a"(sum) : : "ecx", "memory");
	want("deep push", sum, 0);
}

static void forbidden(void)
{
	test("users-forbidden");
	CHILD("cli", asm volatile("cli"), FAULT(13, 0));
	CHILD("hlt", asm volatile("hlt"), FAULT(13, 0));
	CHILD("in", asm volatile("in $0x60, %%al" : : : "eax"), FAULT(13, 0));
	CHILD("outs", asm volatile("mov $0x3f8, %%edx; outsb" : : "S"(code) : "edx"), FAULT(13, 0));
	CHILD("mov cr3", asm volatile("mov %%cr3, %%eax" : : : "eax"), FAULT(13, 0));
	CHILD("lidt", asm volatile("lidt (%0)" : : "r"(code)), FAULT(13, 0));
	CHILD("int 20", asm volatile("int $0x20"), FAULT(13, 0x02));
	CHILD("int 14", asm volatile("int $14"), FAULT(13, 0x72));
	CHILD("kernel's data segment", asm volatile("mov %w0, %%ds" : : "r"(0x10)), FAULT(13, 0x10));
	CHILD("kernel's code segment", asm volatile("ljmp $0x08, $0"), FAULT(13, 0x08));
	CHILD("a TSS", asm volatile("ljmp $0x28, $0"), FAULT(13, 0x28));
	CHILD("read kernel", (void)*(volatile u32 *)0xc0100000, FAULT(14, 5));
	CHILD("write kernel", *(volatile u32 *)0xc0100000 = 1, FAULT(14, 7));
	CHILD("read low map", (void)*(volatile u32 *)0x100000, FAULT(14, 5));
	CHILD("read nothing", (void)*(volatile u32 *)0x30000000, FAULT(14, 4));
	CHILD("write nothing", *(volatile u32 *)0x30000000 = 1, FAULT(14, 6));
	CHILD("undefined", asm volatile("ud2"), FAULT(6, 0));
	CHILD("divide", asm volatile("div %b0" : : "c"(0) : "eax"), FAULT(0, 0));
	CHILD("int3", asm volatile("int3"), FAULT(3, 0));
	CHILD("single step", asm volatile("pushf; orl $0x100, (%%esp); popf; nop; nop" : : : "memory"), FAULT(1, 0));
	/* Not a fault: POPF leaves what the program may not change. */
	u32 flags;
	asm volatile("pushf; pop %0; andl $~0x3200, %0; push %0; popf; pushf; pop %0" : "=r"(flags) : : "cc", "memory");
	want("popf", flags & 0x3200, 0x200);
	asm volatile("pushf; pop %0; orl $0x3000, %0; push %0; popf; pushf; pop %0" : "=r"(flags) : : "cc", "memory");
	want("popf to IOPL 3", flags & 0x3200, 0x200);
}

static void self_modifying(void)
{
	test("users-self-modifying");
	u32 (*f)(void) = (u32 (*)(void))code, sum = 0;
	for (u32 i = 0; i < 300; i++) {
		*(volatile u32 *)(code + 1) = i;
		sum += f();
	}
	want("sum", sum, 299 * 300 / 2);
	/* The child's copy of the code is its own. */
	*(volatile u32 *)(code + 1) = 5;
	CHILD("child's code", *(volatile u32 *)(code + 1) = 6; leave(f()), 6);
	want("parent's code", f(), 5);
	/* On the heap, and on the stack. */
	u8 *heap = (u8 *)0x10080ffd;
	u8 stack[8];
	for (u32 i = 0; i < 6; i++)
		((volatile u8 *)stack)[i] = ((volatile u8 *)heap)[i] = code[i];
	want("on the heap, over a page's end", ((u32 (*)(void))heap)(), 5);
	want("on the stack", ((u32 (*)(void))stack)(), 5);
}

/* Runs until it was taken off the CPU often enough; its registers stay. */
static u32 busy(u32 seed)
{
	u32 wrong = 0, x = seed, y = ~seed;
	do {
		for (u32 i = 0; i < 20000; i++)
			asm volatile("xchg %0, %1" : "+S"(x), "+D"(y));
		wrong += x != seed || y != ~seed;
	} while (call(7, 0, 0, 0) < 4);
	return wrong;
}

int main(void)
{
	u32 cs;

	say("a program in ring 3\n");
	asm("mov %%cs, %0" : "=r"(cs));
	want("ring", cs & 3, 3);
	want("pid", call(3, 0, 0, 0), 1);
	want("unknown call", call(1000, 0, 0, 0), -1u);
	want("stack switched", call(9, 0, 0, 0), 1);
	memory();
	forbidden();
	self_modifying();

	test("users-preempted");
	u32 pids[4];
	for (u32 i = 0; i < 4; i++)
		if (!(pids[i] = fork()))
			leave(busy(0x1357 << i) * 16 + i);
	for (u32 i = 0; i < 4; i++)
		want("wrong registers and number", wait(pids[i]), i);
	test("users-end");
	return 42;
}
