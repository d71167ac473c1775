/* SPDX-License-Identifier: GPL-2.0 */
/* Tests of the self-check that are about the CPU as a program sees it: ways into the kernel, segments, single steps, vector registers. */
#define _GNU_SOURCE
#include <asm/ldt.h>
#include <link.h>
#include <sched.h>
#include <stddef.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

#ifdef __x86_64__
#include <asm/prctl.h>
#define OTHER "/bin/selfcheck32"
#define WAY "syscall"
#else
#define OTHER "/bin/selfcheck"
#define WAY "int $0x80"
#endif

/* Selectors of user code, which Linux has never changed (arch/x86/include/asm/segment.h): __USER32_CS and __USER_CS of 64-bit kernels. */
#define USER32_CS 0x23
#define USER64_CS 0x33

/* A symbol of the vDSO, or a null pointer. */
static void *vdso_symbol(const char *wanted)
{
	const ElfW(Ehdr) *image = (const void *)getauxval(AT_SYSINFO_EHDR);
	const ElfW(Phdr) *segment;
	const ElfW(Dyn) *dynamic = 0;
	const ElfW(Sym) *symbols = 0;
	const char *names = 0;
	const uint32_t *hash = 0;
	uintptr_t bias = 0;
	int loaded = 0;

	REQUIRE(image, "the kernel gave no vDSO");
	segment = (const void *)((uintptr_t)image + image->e_phoff);
	for (unsigned i = 0; i < image->e_phnum; i++) {
		if (segment[i].p_type == PT_LOAD && !loaded) {
			bias = (uintptr_t)image + segment[i].p_offset - segment[i].p_vaddr;
			loaded = 1;
		}
		if (segment[i].p_type == PT_DYNAMIC)
			dynamic = (const void *)((uintptr_t)image + segment[i].p_offset);
	}
	REQUIRE(dynamic && loaded, "the vDSO has no dynamic section");
	for (; dynamic->d_tag != DT_NULL; dynamic++) {
		const void *at = (const void *)(bias + dynamic->d_un.d_ptr);

		if (dynamic->d_tag == DT_SYMTAB)
			symbols = at;
		else if (dynamic->d_tag == DT_STRTAB)
			names = at;
		else if (dynamic->d_tag == DT_HASH)
			hash = at;
	}
	REQUIRE(symbols && names, "the vDSO has no symbols");
	/* The section headers tell the number of symbols as well; newer kernels have no DT_HASH. */
	unsigned count = hash ? hash[1] : 0;
	const ElfW(Shdr) *section = (const void *)((uintptr_t)image + image->e_shoff);

	for (unsigned i = 0; !count && i < image->e_shnum; i++)
		if (section[i].sh_type == SHT_DYNSYM)
			count = section[i].sh_size / sizeof(*symbols);
	REQUIRE(count, "the vDSO does not tell how many symbols it has");
	for (unsigned i = 1; i < count; i++)
		if (symbols[i].st_shndx != SHN_UNDEF && strcmp(names + symbols[i].st_name, wanted) == 0)
			return (void *)(bias + symbols[i].st_value);
	return 0;
}

/* struct timespec with 64-bit seconds in programs of both sizes. */
struct kernel_timespec {
	int64_t seconds, nanoseconds;
};

static int not_after(struct kernel_timespec a, struct kernel_timespec b)
{
	return a.seconds < b.seconds || (a.seconds == b.seconds && a.nanoseconds <= b.nanoseconds);
}

/* The clocks that the vDSO computes from the TSC agree with those that the kernel computes. */
void vdso(void)
{
	static const clockid_t clocks[] = { CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_REALTIME_COARSE, CLOCK_MONOTONIC_COARSE, CLOCK_BOOTTIME };
#ifdef __x86_64__
	int (*gettime)(clockid_t, struct kernel_timespec *) = vdso_symbol("__vdso_clock_gettime");
	const long number = SYS_clock_gettime;
#else
	int (*gettime)(clockid_t, struct kernel_timespec *) = vdso_symbol("__vdso_clock_gettime64");
	const long number = SYS_clock_gettime64;
#endif
	int (*getday)(struct timeval *, void *) = vdso_symbol("__vdso_gettimeofday");
	long (*getcpu)(unsigned *, unsigned *, void *) = vdso_symbol("__vdso_getcpu");
	time_t (*gettime_seconds)(time_t *) = vdso_symbol("__vdso_time");
	unsigned cpu = 77, node = 77, calls = 0;
	cpu_set_t first;

	CPU_ZERO(&first);
	CPU_SET(0, &first);
	REQUIRE(sched_setaffinity(0, sizeof(first), &first) == 0, "sched_setaffinity");
	REQUIRE(gettime && getday && gettime_seconds, "the vDSO lacks a function");
	for (unsigned which = 0; which < sizeof(clocks) / sizeof(clocks[0]); which++) {
		double end = now(CLOCK_MONOTONIC) + 0.2;

		do {
			struct kernel_timespec before, between, after;

			REQUIRE(syscall(number, clocks[which], &before) == 0 && gettime(clocks[which], &between) == 0 &&
					syscall(number, clocks[which], &after) == 0,
				"clock %d cannot be read", (int)clocks[which]);
			REQUIRE(not_after(before, between) && not_after(between, after), "clock %d: %lld.%09lld, vDSO %lld.%09lld, then %lld.%09lld",
				(int)clocks[which], (long long)before.seconds, (long long)before.nanoseconds, (long long)between.seconds,
				(long long)between.nanoseconds, (long long)after.seconds, (long long)after.nanoseconds);
			calls++;
		} while (now(CLOCK_MONOTONIC) < end);
	}
	for (int i = 0; i < 1000; i++) {
		struct timeval before, between, after;

		REQUIRE(syscall(SYS_gettimeofday, &before, 0) == 0 && getday(&between, 0) == 0 && syscall(SYS_gettimeofday, &after, 0) == 0,
			"the time of day cannot be read");
		REQUIRE(!timercmp(&before, &between, >) && !timercmp(&between, &after, >), "the time of day goes back in the vDSO");
		REQUIRE(gettime_seconds(0) >= before.tv_sec - 1, "the seconds go back in the vDSO");
	}
	if (getcpu) {
		/* By RDPID or by the limit of a segment: that of the CPU and its node. */
		REQUIRE(getcpu(&cpu, &node, 0) == 0 && cpu == 0 && node == 0, "CPU %u of node %u", cpu, node);
	}
	printf("  %u readings by vDSO and system call\n", calls);
}

/* What getpid gives by another way into the kernel; the registers that the way promises to keep are kept. */
#ifdef __x86_64__
static long by_syscall(long number)
{
	struct {
		uint64_t here, flags, rcx, r11, differing;
	} seen;
	const uint64_t kept = 0x0123456789abcdef;
	long result;

	__asm__ volatile("leaq -128(%%rsp), %%rsp; pushfq; popq 8(%[seen]); leaq 128(%%rsp), %%rsp\n\t"
			 "leaq 1f(%%rip), %%rcx; movq %%rcx, (%[seen])\n\t"
			 "movq %[kept], %%rdx; movq %[kept], %%r8; movq %[kept], %%r9; movq %[kept], %%r10; movq %[kept], %%r12\n\t"
			 "syscall; 1: movq %%rcx, 16(%[seen]); movq %%r11, 24(%[seen])\n\t"
			 "xorq %[kept], %%rdx; xorq %[kept], %%r8; xorq %[kept], %%r9; xorq %[kept], %%r10; xorq %[kept], %%r12\n\t"
			 "orq %%r8, %%rdx; orq %%r9, %%rdx; orq %%r10, %%rdx; orq %%r12, %%rdx; movq %%rdx, 32(%[seen])"
			 : "=a"(result)
			 : "0"(number), [seen] "b"(&seen), [kept] "D"(kept)
			 : "rcx", "rdx", "r8", "r9", "r10", "r11", "r12", "cc", "memory");
	REQUIRE(seen.rcx == seen.here, "RCX is %#lx after SYSCALL, not %#lx", seen.rcx, seen.here);
	REQUIRE(seen.r11 == seen.flags, "R11 is %#lx after SYSCALL, not the flags %#lx", seen.r11, seen.flags);
	REQUIRE(seen.differing == 0, "SYSCALL changed registers: %#lx", seen.differing);
	return result;
}

static long by_int80(long number)
{
	long result, kept = 0x0123456789abcdef, same;

	__asm__ volatile("movq %[kept], %%r8; movq %[kept], %%r11; movq %[kept], %%r15; int $0x80; xorl %%ecx, %%ecx\n\t"
			 "cmpq %[kept], %%r8; jne 1f; cmpq %[kept], %%r11; jne 1f; cmpq %[kept], %%r15; jne 1f; incl %%ecx; 1:"
			 : "=a"(result), "=&c"(same)
			 : "0"(number), [kept] "D"(kept)
			 : "r8", "r11", "r15", "cc", "memory");
	REQUIRE(same == 1, "INT 80 did not keep the registers");
	return (int)result;
}
#else
static long by_int80(long number)
{
	long result;

	__asm__ volatile("int $0x80" : "=a"(result) : "0"(number) : "memory");
	return result;
}

/* SYSENTER, or in compatibility mode on AMD SYSCALL, as the kernel chose for its __kernel_vsyscall. */
static long by_vsyscall(long number)
{
	long result;

	__asm__ volatile("call *%[entry]" : "=a"(result) : "0"(number), [entry] "S"(getauxval(AT_SYSINFO)) : "memory");
	return result;
}
#endif

/* Far pointer m16:32. */
struct far_pointer {
	uint32_t offset;
	uint16_t selector;
} __attribute__((packed));

/*
 * Calls code of the other size in this process: a far call with its stack below 4 GiB, and a far return. The code's number comes back.
 */
static uint32_t far_call(const uint8_t *code, size_t bytes, uint16_t selector)
{
	uint8_t *low = mmap(0, 2 * PAGE, PROT_READ | PROT_WRITE | PROT_EXEC,
#ifdef __x86_64__
			    MAP_32BIT |
#endif
				    MAP_PRIVATE | MAP_ANONYMOUS,
			    -1, 0);
	struct far_pointer target = { (uint32_t)(uintptr_t)low, selector };
	uint32_t result;

	REQUIRE(low != MAP_FAILED, "no memory below 4 GiB");
	memcpy(low, code, bytes);
#ifdef __x86_64__
	static uint64_t own_stack;

	__asm__ volatile("movq %%rsp, %[own]; movq %[stack], %%rsp; lcall *(%[target]); movq %[own], %%rsp"
			 : "=&a"(result), [own] "+m"(own_stack)
			 : [stack] "S"(low + 2 * PAGE), [target] "D"(&target)
			 : "rcx", "rdx", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15", "cc", "memory");
#else
	__asm__ volatile("lcall *%[target]" : "=&a"(result) : [target] "m"(target) : "ecx", "edx", "cc", "memory");
#endif
	munmap(low, 2 * PAGE);
	return result;
}

/* Every way into the kernel that a program of this size has, and code of the other size in the same process. */
void entries(void)
{
	const long pid = getpid();
	/* mov eax, 20 (getpid of 32-bit programs); int 80; retf */
	static const uint8_t compat[] = { 0xb8, 20, 0, 0, 0, 0xcd, 0x80, 0xcb };
	/* The same with the high half of a 64-bit register in between: mov edx, 1; shl rdx, 32; shr rdx, 32; dec edx; add eax, edx */
	static const uint8_t native[] = { 0xb8, 39, 0, 0, 0, 0x0f, 0x05, 0xba, 1, 0, 0, 0, 0x48, 0xc1, 0xe2, 32,
					  0x48, 0xc1, 0xea, 32, 0xff, 0xca, 0x01, 0xd0, 0xcb };

	for (int i = 0; i < 20000; i++) {
#ifdef __x86_64__
		REQUIRE(by_syscall(SYS_getpid) == pid, "SYSCALL %d", i);
#else
		REQUIRE(by_vsyscall(SYS_getpid) == pid, "vDSO call %d", i);
#endif
		REQUIRE(by_int80(20) == pid, "INT 80 %d", i);
	}
	REQUIRE(by_int80(9999) == -ENOSYS, "INT 80 with an unknown number");
#ifdef __x86_64__
	REQUIRE(by_syscall(9999) == -ENOSYS, "SYSCALL with an unknown number");
#endif
	for (int i = 0; kernel_is_64() && i < 2000; i++) {
		uint32_t is = sizeof(void *) == 8 ? far_call(compat, sizeof(compat), USER32_CS) : far_call(native, sizeof(native), USER64_CS);

		REQUIRE(is == (uint32_t)pid, "call %d of code of the other size gave %u, not %ld", i, is, pid);
	}
}

/* FS and GS bases belong to the process, however it sets them, across preemption and exec. */
void bases(void)
{
#ifdef __x86_64__
	const int instructions = (getauxval(AT_HWCAP2) & 2) != 0;
	pid_t children[3];

	for (int c = 0; c < 3; c++) {
		children[c] = fork_child();
		if (children[c] != 0)
			continue;
		static uint64_t words[8];
		uint64_t base = (uint64_t)words, is;

		for (int i = 0; i < 8; i++)
			words[i] = (uint64_t)(c + 1) << 56 | (uint64_t)i;
		REQUIRE(syscall(SYS_arch_prctl, ARCH_SET_GS, base) == 0, "ARCH_SET_GS");
		for (int i = 0; i < 20000; i++) {
			__asm__ volatile("movq %%gs:24, %0" : "=r"(is));
			REQUIRE(is == words[3], "GS:24 is %#lx in turn %d", is, i);
			if (i % 100 == 0) {
				REQUIRE(syscall(SYS_arch_prctl, ARCH_GET_GS, &is) == 0 && is == base, "ARCH_GET_GS gives %#lx", is);
				syscall(SYS_sched_yield);
			}
			if (instructions && i % 10 == 0) {
				__asm__ volatile("wrgsbase %0" ::"r"(base + 8));
				__asm__ volatile("movq %%gs:24, %0" : "=r"(is));
				REQUIRE(is == words[4], "GS:24 after WRGSBASE is %#lx", is);
				__asm__ volatile("wrgsbase %0" ::"r"(base));
				__asm__ volatile("rdgsbase %0" : "=r"(is));
				REQUIRE(is == base, "RDGSBASE gives %#lx", is);
				__asm__ volatile("rdfsbase %0" : "=r"(is));
				REQUIRE(is == *(uint64_t *)is, "RDFSBASE does not give the thread's block");
			}
		}
		/* A base with bits above 32 is lost with the next selector, the null one too on Intel; a base of the high half is refused. */
		REQUIRE(syscall(SYS_arch_prctl, ARCH_SET_GS, 1ull << 63) == -1 && errno == EPERM, "a base of the kernel's half was taken");
		exit(0);
	}
	for (int c = 0; c < 3; c++)
		child_succeeds(children[c]);
	printf("  FSGSBASE instructions: %s\n", instructions ? "used" : "absent");
#else
	/* 32-bit programs have a descriptor for thread-local data, which fork copies. */
	pid_t children[3];

	for (int c = 0; c < 3; c++) {
		children[c] = fork_child();
		if (children[c] != 0)
			continue;
		static uint32_t words[8];
		struct user_desc entry = { .entry_number = ~0u, .base_addr = (uintptr_t)words, .limit = sizeof(words) - 1, .seg_32bit = 1,
					   .useable = 1 };
		uint32_t is;

		for (int i = 0; i < 8; i++)
			words[i] = (uint32_t)(c + 1) << 24 | (uint32_t)i;
		REQUIRE(syscall(SYS_set_thread_area, &entry) == 0, "set_thread_area");
		__asm__ volatile("movw %w0, %%fs" ::"r"(entry.entry_number << 3 | 3));
		for (int i = 0; i < 20000; i++) {
			__asm__ volatile("movl %%fs:12, %0" : "=r"(is));
			REQUIRE(is == words[3], "FS:12 is %#x in turn %d", is, i);
			if (i % 100 == 0)
				syscall(SYS_sched_yield);
		}
		/* Its limit is not tried: TCG checks none. */
		exit(0);
	}
	for (int c = 0; c < 3; c++)
		child_succeeds(children[c]);
#endif
}

/* Local descriptor tables: each process has its own, a 16-bit stack segment works where the kernel allows one, and what is not in the table
 * cannot be loaded. */
void ldt(void)
{
	pid_t children[3];

	for (int c = 0; c < 3; c++) {
		children[c] = fork_child();
		if (children[c] != 0)
			continue;
		uint32_t *words = mmap(0, PAGE, PROT_READ | PROT_WRITE,
#ifdef __x86_64__
				       MAP_32BIT |
#endif
					       MAP_PRIVATE | MAP_ANONYMOUS,
				       -1, 0);
		struct user_desc entry = { .entry_number = 5, .base_addr = (uint32_t)(uintptr_t)words, .limit = PAGE - 1, .seg_32bit = 1 };
		const unsigned selector = 5 << 3 | 7;
		uint32_t is;

		REQUIRE(words != MAP_FAILED, "mmap");
		words[3] = 0x1d700000u + (uint32_t)c;
		REQUIRE(syscall(SYS_modify_ldt, 1, &entry, sizeof(entry)) == 0, "modify_ldt");
#ifdef __x86_64__
		__asm__ volatile("movw %w0, %%gs" ::"r"(selector));
#else
		__asm__ volatile("movw %w0, %%fs" ::"r"(selector));
#endif
		for (int i = 0; i < 20000; i++) {
#ifdef __x86_64__
			__asm__ volatile("movl %%gs:12, %0" : "=r"(is));
#else
			__asm__ volatile("movl %%fs:12, %0" : "=r"(is));
#endif
			REQUIRE(is == words[3], "the local segment has %#x in turn %d", is, i);
			if (i % 100 == 0)
				syscall(SYS_sched_yield);
		}
		/* A 16-bit stack: the way back from each interrupt and system call keeps the upper half of the stack pointer (espfix). */
		const unsigned stack = 6 << 3 | 7;
		uint32_t expected, pointer;
		uint16_t ss;

		entry.entry_number = 6;
		entry.seg_32bit = 0;
		/* The system call's result is an int, which 64-bit libraries do not take for an error. */
		int status = (int)syscall(SYS_modify_ldt, 1, &entry, sizeof(entry)), refused = status == -EINVAL || (status == -1 && errno == EINVAL);

		REQUIRE(status == 0 || refused, "modify_ldt of a 16-bit segment");
		if (c == 0)
			printf("  16-bit segments: %s\n", refused ? "refused by the kernel" : "allowed");
		for (int i = 0; !refused && i < 200; i++) {
			/* No push while SS is the small segment; getpid by INT 80, then a while for the timer. */
#ifdef __x86_64__
			__asm__ volatile("movl %%ss, %%r9d; movq %%rsp, %%r10; movl %%esp, %[expected]; movw %w[stack], %%ss; movl $20, %%eax; int $0x80\n\t"
					 "movl $2000, %%ecx; 1: pause; decl %%ecx; jnz 1b; movl %%esp, %[pointer]; movw %%ss, %w[ss]\n\t"
					 "movw %%r9w, %%ss; movq %%r10, %%rsp"
					 : [expected] "=&r"(expected), [pointer] "=&r"(pointer), [ss] "=&r"(ss)
					 : [stack] "r"(stack)
					 : "eax", "ecx", "r8", "r9", "r10", "r11", "cc", "memory");
#else
			__asm__ volatile("movl %%ss, %%edx; movl %%esp, %[expected]; movw %w[stack], %%ss; movl $20, %%eax; int $0x80\n\t"
					 "movl $2000, %%ecx; 1: pause; decl %%ecx; jnz 1b; movl %%esp, %[pointer]; movw %%ss, %w[ss]\n\t"
					 "movw %%dx, %%ss; movl %[expected], %%esp"
					 : [expected] "=&S"(expected), [pointer] "=&D"(pointer), [ss] "=&a"(ss)
					 : [stack] "b"(stack)
					 : "ecx", "edx", "cc", "memory");
#endif
			REQUIRE(ss == stack, "SS became %#x", ss);
			REQUIRE(pointer == expected, "the stack pointer became %#x, not %#x, in turn %d", pointer, expected, i);
		}
		catch_signal(SIGSEGV);
		PROVOKE(SIGSEGV, SI_KERNEL, __asm__ volatile("movw %w0, %%es" ::"r"(9 << 3 | 7)));
		exit(0);
	}
	for (int c = 0; c < 3; c++)
		child_succeeds(children[c]);
}

/* Children that exec the program of the other size, which execs this one. */
void mixed(void)
{
	static char self[64];
	ssize_t length = readlink("/proc/self/exe", self, sizeof(self) - 1);

	REQUIRE(length > 0, "the program does not know its name");
	for (int i = 0; i < 200; i++) {
		int status;
		char value[16];
		pid_t pid = fork_child();

		if (pid == 0) {
			snprintf(value, sizeof(value), "%d", i & 0x7f);
			execl(OTHER, OTHER, "through", self, value, (char *)0);
			_exit(255);
		}
		REQUIRE(waitpid(pid, &status, 0) == pid, "waitpid %d", i);
		REQUIRE(WIFEXITED(status) && WEXITSTATUS(status) == (i & 0x7f), "child %d ended with %#x", i, status);
	}
}

/*
 * The code that is stepped through. Between step_begin and step_end STEPS instructions are executed: 2, then 4 * 3 for the sum of 4 to 1, 1, 3
 * for a call, 1, a system call, 2. An int3 stops it in front of the first.
 */
#define STEPS 22
long stepped(void);
extern const char step_begin[], step_end[];
#ifdef __x86_64__
#define NUMBER "39"
#define CX "%rcx"
#define REGISTER(name) r##name
#else
#define NUMBER "20"
#define CX "%ecx"
#define REGISTER(name) e##name
/* The same for the way into the kernel that the vDSO takes: SYSENTER with TF set is the delicate one. */
long stepped_vdso(void);
extern const char vdso_end[];
uintptr_t vdso_entry;
__asm__(".text\n"
	"stepped_vdso: int3\n"
	"	movl $20, %eax\n"
	"	call *vdso_entry\n"
	"vdso_end: ret\n");
#endif
__asm__(".text\n"
	"stepped: int3\n"
	"step_begin: movl $4, %ecx\n"
	"	xorl %eax, %eax\n"
	"1:	addl %ecx, %eax\n"
	"	decl %ecx\n"
	"	jnz 1b\n"
	"	movl %eax, %edx\n"
	"	call 2f\n"
	"	jmp 3f\n"
	"2:	ret\n"
	"3:	movl $" NUMBER ", %eax\n"
	"	" WAY "\n"
	"	pushf\n"
	"	pop " CX "\n"
	"step_end: ret\n");

/* Waits for the child to stop by a trap of one of these kinds; gives its registers. */
static struct user_regs_struct trapped(pid_t pid, int code, int or_code)
{
	struct user_regs_struct registers;
	siginfo_t info;
	int status;

	REQUIRE(waitpid(pid, &status, 0) == pid && WIFSTOPPED(status) && WSTOPSIG(status) == SIGTRAP, "the child did not trap: %#x", status);
	REQUIRE(ptrace(PTRACE_GETSIGINFO, pid, 0, &info) == 0 && (info.si_code == code || info.si_code == or_code),
		"the trap has code %d, not %d or %d", info.si_code, code, or_code);
	REQUIRE(ptrace(PTRACE_GETREGS, pid, 0, &registers) == 0, "PTRACE_GETREGS");
	REQUIRE(!(registers.eflags & 0x100), "the tracer sees its own trap flag");
	return registers;
}

/* Steps until the child is at this address; gives the number of steps, of which there may not be more than 100. */
static int steps_until(pid_t pid, const char *end, struct user_regs_struct *registers)
{
	int steps = 0;

	while ((uintptr_t)registers->REGISTER(ip) != (uintptr_t)end) {
		REQUIRE(steps++ < 100, "the child does not come to the end");
		REQUIRE(ptrace(PTRACE_SINGLESTEP, pid, 0, 0) == 0, "PTRACE_SINGLESTEP");
		/* The step over a system call is reported on the kernel's way out, with a code of its own. */
		*registers = trapped(pid, TRAP_TRACE, TRAP_BRKPT);
	}
	return steps;
}

/* A child is stepped through known code: each instruction is one step, and its registers are what they must be. */
void step(void)
{
	const int turns = 50;
	struct user_regs_struct registers;
	int status, total = 0;
	pid_t pid = fork_child();

	if (pid == 0) {
		int wrong = ptrace(PTRACE_TRACEME, 0, 0, 0) != 0;

		for (int i = 0; i < turns; i++)
			wrong |= stepped() != 4711 + i;
#ifndef __x86_64__
		vdso_entry = getauxval(AT_SYSINFO);
		for (int i = 0; i < turns; i++)
			wrong |= stepped_vdso() != getpid();
#endif
		_exit(wrong);
	}
	for (int i = 0; i < turns; i++) {
		int steps;

		registers = trapped(pid, SI_KERNEL, SI_KERNEL);
		REQUIRE((uintptr_t)registers.REGISTER(ip) == (uintptr_t)step_begin, "stopped at %#lx", (long)registers.REGISTER(ip));
		steps = steps_until(pid, step_end, &registers);
		REQUIRE(steps == STEPS, "%d steps, not %d", steps, STEPS);
		REQUIRE(registers.REGISTER(dx) == 10, "the sum is %ld", (long)registers.REGISTER(dx));
		REQUIRE((pid_t)registers.REGISTER(ax) == pid, "getpid gave the child %ld", (long)registers.REGISTER(ax));
		REQUIRE(registers.REGISTER(cx) & 0x100, "PUSHF did not show the trap flag: %#lx", (long)registers.REGISTER(cx));
		registers.REGISTER(ax) = 4711 + i;
		REQUIRE(ptrace(PTRACE_SETREGS, pid, 0, &registers) == 0 && ptrace(PTRACE_CONT, pid, 0, 0) == 0, "PTRACE_CONT");
		total += steps;
	}
#ifndef __x86_64__
	for (int i = 0; i < turns; i++) {
		registers = trapped(pid, SI_KERNEL, SI_KERNEL);
		total += steps_until(pid, vdso_end, &registers);
		REQUIRE(registers.eax == pid, "by the vDSO the child is %ld", registers.eax);
		REQUIRE(ptrace(PTRACE_CONT, pid, 0, 0) == 0, "PTRACE_CONT");
	}
#endif
	REQUIRE(waitpid(pid, &status, 0) == pid && status == 0, "the child saw other registers: %#x", status);
	printf("  %d steps\n", total);
}

#ifdef __x86_64__
#define VECTORS 16
#define EACH_VECTOR(f) f(0) f(1) f(2) f(3) f(4) f(5) f(6) f(7) f(8) f(9) f(10) f(11) f(12) f(13) f(14) f(15)
#define VECTOR_CLOBBERS , "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15"
#else
#define VECTORS 8
#define EACH_VECTOR(f) f(0) f(1) f(2) f(3) f(4) f(5) f(6) f(7)
/* The compiler knows nothing of these registers in a program for any i686, and uses none. */
#define VECTOR_CLOBBERS
#endif
#define LOAD(n) "vmovups 32*" #n "(%[from]), %%ymm" #n "\n\t"
#define STORE(n) "vmovups %%ymm" #n ", 32*" #n "(%[to])\n\t"

/* Holds a pattern in all vector registers for a while. */
static void hold(const uint32_t from[VECTORS][8], uint32_t to[VECTORS][8], unsigned turns)
{
	__asm__ volatile(EACH_VECTOR(LOAD) "1: decl %[turns]; jnz 1b\n\t" EACH_VECTOR(STORE) "vzeroupper"
			 : [turns] "+r"(turns)
			 : [from] "r"(from), [to] "r"(to)
			 : "cc", "memory" VECTOR_CLOBBERS);
}

static volatile sig_atomic_t wiped;

static void wipe(int signal)
{
	(void)signal;
	__asm__ volatile("vzeroall" ::: "memory" VECTOR_CLOBBERS);
	wiped++;
}

/* Whether the kernel names this feature in /proc/cpuinfo. */
static int kernel_has(const char *feature)
{
	static char line[8192];
	int found = 0;
	FILE *f = fopen("/proc/cpuinfo", "r");

	REQUIRE(f, "no /proc/cpuinfo");
	while (fgets(line, sizeof(line), f))
		if (strncmp(line, "flags", 5) == 0)
			for (char *word = strtok(line, " \t\n"); word; word = strtok(0, " \t\n"))
				found |= strcmp(word, feature) == 0;
	fclose(f);
	return found;
}

static void avx_arithmetic(void)
{
	double a[4] = { 1.5, -2.25, 1e300, 3.0 }, b[4] = { 2.5, 4.75, 1e-300, 7.0 }, is[4];

	__asm__ volatile("vmovupd %[a], %%ymm0; vmovupd %[b], %%ymm1; vmulpd %%ymm1, %%ymm0, %%ymm2; vaddpd %%ymm0, %%ymm2, %%ymm2\n\t"
			 "vsqrtpd %%ymm1, %%ymm3; vdivpd %%ymm3, %%ymm2, %%ymm2; vmovupd %%ymm2, %[is]; vzeroupper"
			 : [is] "=m"(is)
			 : [a] "m"(a), [b] "m"(b)
			 : "memory" VECTOR_CLOBBERS);
	for (int i = 0; i < 4; i++) {
		double x = a[i], y = b[i], root, expected;

		/* One scalar SSE2 instruction for each: programs for the 32-bit ABI would compute on the x87 stack. */
		__asm__ volatile("movsd %[x], %%xmm0; movsd %[y], %%xmm1; sqrtsd %%xmm1, %%xmm2; mulsd %%xmm0, %%xmm1; addsd %%xmm0, %%xmm1\n\t"
				 "divsd %%xmm2, %%xmm1; movsd %%xmm1, %[expected]; movsd %%xmm2, %[root]"
				 : [expected] "=m"(expected), [root] "=m"(root)
				 : [x] "m"(x), [y] "m"(y)
				 : "memory" VECTOR_CLOBBERS);
		REQUIRE(memcmp(&expected, &is[i], sizeof(expected)) == 0, "element %d is %a, not %a", i, is[i], expected);
	}
}

/*
 * Present or absent is the engine's choice, but the kernel and the instructions agree on it. CPUID itself is not asked: a CPU without CPUID
 * faulting answers a program before anybody else can.
 */
void avx(void)
{
	pid_t children[3];
	uint32_t low, high;

	if (!kernel_has("avx")) {
		catch_signal(SIGILL);
		PROVOKE(SIGILL, ILL_ILLOPN, __asm__ volatile("vxorps %%ymm0, %%ymm0, %%ymm0" ::: "memory" VECTOR_CLOBBERS));
		printf("fact %s absent\n", test);
		return;
	}
	__asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
	REQUIRE((low & 7) == 7, "the kernel has AVX, but XCR0 is %#x", low);
	avx_arithmetic();
	for (int c = 0; c < 3; c++) {
		children[c] = fork_child();
		if (children[c] != 0)
			continue;
		static uint32_t pattern[VECTORS][8], is[VECTORS][8];
		struct itimerval timer = { { 0, 10000 }, { 0, 10000 } };

		for (unsigned i = 0; i < VECTORS * 8; i++)
			pattern[i / 8][i % 8] = (uint32_t)(c + 1) * 0x01010101u ^ i << 4;
		signal(SIGALRM, wipe);
		setitimer(ITIMER_REAL, &timer, 0);
		for (int turn = 0; turn < 20 || wiped < 5; turn++) {
			memset(is, 0, sizeof(is));
			hold((const void *)pattern, is, 2000000);
			REQUIRE(memcmp(pattern, is, sizeof(is)) == 0, "the vector registers changed in turn %d", turn);
		}
		exit(0);
	}
	for (int c = 0; c < 3; c++)
		child_succeeds(children[c]);
	printf("fact %s present\n", test);
}
