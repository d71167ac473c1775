/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the self-check of the Debian guest does itself, one test per sub-command, each of which says "ok NAME" or "FAILED NAME: why" and
 * ends with 0 or 1. A static program of the kernel's size, and on a 64-bit kernel a 32-bit one too, whose tests have names that end in 32;
 * /init calls the tests one by one. Here are those that every kernel of 30 years could run; cpu.c and tracing.c have the others.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <string.h>
#include <sys/io.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

const char *test;

double now(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

pid_t fork_child(void)
{
	pid_t pid;

	fflush(stdout);
	pid = fork();
	REQUIRE(pid >= 0, "fork");
	return pid;
}

void child_succeeds(pid_t pid)
{
	int status;

	REQUIRE(waitpid(pid, &status, 0) == pid && status == 0, "a child ended with %#x", status);
}

int kernel_is_64(void)
{
	struct utsname name;

	return uname(&name) == 0 && strcmp(name.machine, "x86_64") == 0;
}

/* A repeatable stream of words that depends on the seed. */
static uint32_t next(uint32_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 17;
	*state ^= *state << 5;
	return *state;
}

/* pattern MIB: writes that many MiB of the stream; the expected hash is made by the same program when the initramfs is built. */
static int pattern(int mib)
{
	static uint32_t block[16384];
	uint32_t state = 0x2545f491;

	for (int i = 0; i < mib * 16; i++) {
		for (unsigned j = 0; j < 16384; j++)
			block[j] = next(&state);
		for (size_t done = 0; done < sizeof(block);) {
			ssize_t n = write(1, (char *)block + done, sizeof(block) - done);

			if (n <= 0)
				return 1;
			done += (size_t)n;
		}
	}
	return 0;
}

/* The sum of all interrupts in /proc/stat. */
static unsigned long long interrupts(void)
{
	unsigned long long sum = 0;
	char line[4096];
	FILE *f = fopen("/proc/stat", "r");

	REQUIRE(f, "no /proc/stat");
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "intr %llu", &sum) == 1)
			break;
	fclose(f);
	return sum;
}

/* Interrupts come while user code spins, and time goes on with them. */
static void ticks(void)
{
	unsigned long long before = interrupts(), after;
	double start = now(CLOCK_MONOTONIC);

	while (now(CLOCK_MONOTONIC) - start < 1.0)
		;
	after = interrupts();
	REQUIRE(after - before >= 50, "only %llu interrupts in a busy second", after - before);
	printf("  %llu interrupts in a busy second\n", after - before);
}

unsigned share(void)
{
	const char *wanted = getenv("share");
	unsigned n = wanted ? (unsigned)strtoul(wanted, 0, 10) : 1;

	return n ? n : 1;
}

/* 1,000 children that each exec this program anew and hand a value back. */
static void forkexec(void)
{
	int children = 1000 / (int)share();

	for (int i = 0; i < children; i++) {
		int status;
		char value[16];
		pid_t pid = fork();

		REQUIRE(pid >= 0, "fork %d", i);
		if (pid == 0) {
			snprintf(value, sizeof(value), "%d", i & 0x7f);
			execl("/proc/self/exe", "selfcheck", "return", value, (char *)0);
			_exit(255);
		}
		REQUIRE(waitpid(pid, &status, 0) == pid, "waitpid %d", i);
		REQUIRE(WIFEXITED(status) && WEXITSTATUS(status) == (i & 0x7f), "child %d ended with %#x", i, status);
	}
	printf("  %d children\n", children);
}

/* Faults on anonymous, copied-on-write and file pages, the contents of each checked, until 100,000 were taken. */
static void faults(void)
{
	const unsigned pages = 2000;
	struct rusage use;
	unsigned long taken = 0;
	int file = open("/tmp/faults", O_RDWR | O_CREAT | O_TRUNC, 0600);

	REQUIRE(file >= 0 && ftruncate(file, (off_t)(pages * PAGE)) == 0, "no file");
	for (unsigned round = 0; taken < 100000 / share(); round++) {
		int status;
		pid_t pid;
		int shared = round % 4 == 3;
		char *p = mmap(0, pages * PAGE, PROT_READ | PROT_WRITE, shared ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS, shared ? file : -1, 0);

		REQUIRE(p != MAP_FAILED, "mmap");
		for (unsigned i = 0; i < pages; i++) {
			uint32_t *word = (uint32_t *)(p + i * PAGE + (i * 4) % PAGE);

			REQUIRE(shared || *word == 0, "page %u is not fresh: %#x", i, *word);
			*word = round * 0x10001 + i;
		}
		pid = fork();
		REQUIRE(pid >= 0, "fork");
		if (pid == 0) {
			for (unsigned i = 0; i < pages; i++) {
				uint32_t *word = (uint32_t *)(p + i * PAGE + (i * 4) % PAGE);

				if (*word != round * 0x10001 + i)
					_exit(1);
				*word = ~*word;
			}
			getrusage(RUSAGE_SELF, &use);
			_exit(0);
		}
		REQUIRE(waitpid(pid, &status, 0) == pid && status == 0, "the child saw wrong contents");
		for (unsigned i = 0; i < pages; i++) {
			uint32_t *word = (uint32_t *)(p + i * PAGE + (i * 4) % PAGE);
			uint32_t expected = round * 0x10001 + i;

			REQUIRE(*word == (shared ? ~expected : expected), "page %u has %#x", i, *word);
		}
		REQUIRE(munmap(p, pages * PAGE) == 0, "munmap");
		getrusage(RUSAGE_SELF, &use);
		taken = (unsigned long)use.ru_minflt;
		getrusage(RUSAGE_CHILDREN, &use);
		taken += (unsigned long)use.ru_minflt;
	}
	close(file);
	unlink("/tmp/faults");
	printf("  %lu faults\n", taken);
}

sigjmp_buf back;
volatile sig_atomic_t got_signal, got_code;
static void *volatile got_address;

static void on_signal(int signal, siginfo_t *info, void *context)
{
	(void)context;
	got_signal = signal;
	got_code = info->si_code;
	got_address = info->si_addr;
	siglongjmp(back, 1);
}

void catch_signal(int signal)
{
	struct sigaction action = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO };

	sigaction(signal, &action, 0);
}

static volatile sig_atomic_t alarms;

static void on_alarm(int signal)
{
	(void)signal;
	alarms++;
}

/* Sets TF. In a 64-bit program the bytes below the stack pointer are the compiler's. */
#ifdef __x86_64__
#define SINGLE_STEP "leaq -128(%%rsp), %%rsp; pushfq; orq $0x100, (%%rsp); popfq; nop; nop"
#else
#define SINGLE_STEP "pushfl; orl $0x100, (%%esp); popfl; nop; nop"
#endif

/* Faults of user code come back as the signals that Linux makes of them; timers interrupt spinning code. */
static void signals(void)
{
	static const int caught[] = { SIGSEGV, SIGFPE, SIGILL, SIGTRAP, SIGUSR1 };
	struct itimerval timer = { { 0, 10000 }, { 0, 10000 } };
	char *readonly;

	for (unsigned i = 0; i < sizeof(caught) / sizeof(caught[0]); i++)
		catch_signal(caught[i]);
	PROVOKE(SIGSEGV, SEGV_MAPERR, *(volatile int *)0x1234 = 1);
	REQUIRE(got_address == (void *)0x1234, "fault address %p", got_address);
	readonly = mmap(0, PAGE, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	PROVOKE(SIGSEGV, SEGV_ACCERR, *(volatile char *)(readonly + 5) = 1);
	REQUIRE(got_address == readonly + 5, "fault address %p", got_address);
	PROVOKE(SIGSEGV, SI_KERNEL, __asm__ volatile("cli"));
	PROVOKE(SIGSEGV, SI_KERNEL, __asm__ volatile("hlt"));
	PROVOKE(SIGFPE, FPE_INTDIV, __asm__ volatile("xorl %%edx, %%edx; xorl %%ecx, %%ecx; idivl %%ecx" ::: "eax", "ecx", "edx", "cc"));
	PROVOKE(SIGILL, ILL_ILLOPN, __asm__ volatile("ud2"));
	PROVOKE(SIGTRAP, SI_KERNEL, __asm__ volatile("int3"));
	PROVOKE(SIGTRAP, TRAP_TRACE,
		__asm__ volatile(SINGLE_STEP ::: "cc", "memory"));
	PROVOKE(SIGUSR1, SI_TKILL, raise(SIGUSR1));

	signal(SIGALRM, on_alarm);
	setitimer(ITIMER_REAL, &timer, 0);
	while (alarms < 20)
		;
	timer.it_interval.tv_usec = timer.it_value.tv_usec = 0;
	setitimer(ITIMER_REAL, &timer, 0);
}

/* A sum that goes through x87 or SSE registers for long enough to be preempted in the middle. */
static double series(double x, int terms)
{
	volatile double start = x;
	double sum = 0;

	for (int i = 1; i <= terms; i++)
		sum += sqrt(start * i) / (i + 1.5) + sin(start * i);
	return sum;
}

/* FPU results: known constants, then the same sum in four processes at once, each to the last bit what it is alone. */
static void fpu(void)
{
	volatile double two = 2.0, one = 1.0, tiny = 1e-300;
	union {
		double d;
		uint64_t bits;
	} a;
	double alone[4];
	pid_t pids[4];

	a.d = sqrt(two);
	REQUIRE(a.bits == 0x3ff6a09e667f3bcdull, "sqrt(2) is %#llx", (unsigned long long)a.bits);
	a.d = one / 3;
	REQUIRE(a.bits == 0x3fd5555555555555ull, "1/3 is %#llx", (unsigned long long)a.bits);
	a.d = 4 * atan(one);
	REQUIRE(a.bits == 0x400921fb54442d18ull, "pi is %#llx", (unsigned long long)a.bits);
	a.d = tiny * tiny;
	REQUIRE(a.bits == 0, "underflow gives %#llx", (unsigned long long)a.bits);
	for (int i = 0; i < 4; i++)
		alone[i] = series(i + 0.5, 20000);
	for (int i = 0; i < 4; i++) {
		pids[i] = fork();
		REQUIRE(pids[i] >= 0, "fork");
		if (pids[i] == 0) {
			for (int turn = 0; turn < 20; turn++) {
				double again = series(i + 0.5, 20000);

				if (memcmp(&again, &alone[i], sizeof(again)) != 0)
					_exit(1);
			}
			_exit(0);
		}
	}
	for (int i = 0; i < 4; i++) {
		int status;

		REQUIRE(waitpid(pids[i], &status, 0) == pids[i] && status == 0, "process %d saw another sum", i);
	}
}

/* 16 MiB through a pipe, every word checked by the reader. */
static void pipes(void)
{
	static uint32_t block[4096];
	uint32_t state = 77;
	int ends[2], status;
	pid_t pid;

	REQUIRE(pipe(ends) == 0, "pipe");
	pid = fork();
	REQUIRE(pid >= 0, "fork");
	if (pid == 0) {
		dup2(ends[1], 1);
		close(ends[0]);
		close(ends[1]);
		for (int i = 0; i < 1024; i++) {
			for (unsigned j = 0; j < 4096; j++)
				block[j] = next(&state);
			if (write(1, block, sizeof(block)) != sizeof(block))
				_exit(1);
		}
		_exit(0);
	}
	close(ends[1]);
	for (int i = 0; i < 1024; i++) {
		for (size_t done = 0; done < sizeof(block);) {
			ssize_t n = read(ends[0], (char *)block + done, sizeof(block) - done);

			REQUIRE(n > 0, "read gave %d", (int)n);
			done += (size_t)n;
		}
		for (unsigned j = 0; j < 4096; j++) {
			uint32_t expected = next(&state);

			REQUIRE(block[j] == expected, "word %u of block %d is %#x", j, i, block[j]);
		}
	}
	REQUIRE(waitpid(pid, &status, 0) == pid && status == 0, "the writer ended with %#x", status);
	close(ends[0]);
}

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;
static int turn;
static unsigned counter;
static __thread unsigned of_this_thread;

/* Four threads take turns; each has its own segment base for thread-local data. */
static void *worker(void *arg)
{
	int me = (int)(intptr_t)arg;

	for (int i = 0; i < 500; i++) {
		pthread_mutex_lock(&lock);
		while (turn != me)
			pthread_cond_wait(&changed, &lock);
		counter++;
		of_this_thread++;
		turn = (turn + 1) % 4;
		pthread_cond_broadcast(&changed);
		pthread_mutex_unlock(&lock);
	}
	return (void *)(intptr_t)of_this_thread;
}

static void threads(void)
{
	pthread_t ids[4];
	void *result;

	for (int i = 0; i < 4; i++)
		REQUIRE(pthread_create(&ids[i], 0, worker, (void *)(intptr_t)i) == 0, "pthread_create");
	for (int i = 0; i < 4; i++) {
		REQUIRE(pthread_join(ids[i], &result) == 0, "pthread_join");
		REQUIRE((intptr_t)result == 500, "thread %d counted %d", i, (int)(intptr_t)result);
	}
	REQUIRE(counter == 2000 && of_this_thread == 0, "counter is %u", counter);
}

/*
 * clock SECONDS: prints the guest's clock, waits by sleeping and by spinning in turn, prints it again. Whoever reads the lines compares with its
 * own clock: the guest cannot know the host's time.
 */
static void clocks(int seconds)
{
	double start = now(CLOCK_MONOTONIC);

	printf("clock %.6f begin\n", now(CLOCK_REALTIME));
	fflush(stdout);
	while (now(CLOCK_MONOTONIC) - start < seconds) {
		double until = now(CLOCK_MONOTONIC) + 1;

		usleep(1000000);
		while (now(CLOCK_MONOTONIC) < until + 1)
			;
	}
	printf("clock %.6f end\n", now(CLOCK_REALTIME));
	fflush(stdout);
}

/* power STATUS: ends the machine through the debug-exit port, by way of the I/O permission bitmap: not every kernel has /dev/port. */
static void power(int status)
{
	sync();
	usleep(200000);
	REQUIRE(ioperm(0x501, 1, 1) == 0, "ioperm");
	outb((uint8_t)status, 0x501);
	usleep(1000000);
	REQUIRE(0, "the machine is still on");
}

/* Whether the program's name ends so. */
static int called(const char *path, const char *end)
{
	size_t length = strlen(path), wanted = strlen(end);

	return length >= wanted && strcmp(path + length - wanted, end) == 0;
}

int main(int argc, char **argv)
{
	static const struct {
		const char *name;
		void (*run)(void);
	} tests[] = { { "ticks", ticks },     { "forkexec", forkexec }, { "faults", faults },	{ "signals", signals }, { "fpu", fpu },
		      { "pipes", pipes },     { "threads", threads },	{ "vdso", vdso },	{ "entries", entries }, { "bases", bases },
		      { "ldt", ldt },	      { "mixed", mixed },	{ "step", step },	{ "avx", avx },		{ "kprobes", kprobes },
		      { "ftrace", ftrace },   { "ftrace-all", ftrace_all }, { "statics", statics } };
	static char name[32];
	int value = argc > 2 ? atoi(argv[2]) : 0;

	snprintf(name, sizeof(name), "%s%s", argc > 1 ? argv[1] : "none", called(argv[0], "32") ? "32" : "");
	test = name;
	if (argc > 2 && strcmp(argv[1], "return") == 0)
		return value;
	if (argc > 3 && strcmp(argv[1], "through") == 0) {
		/* through PROGRAM VALUE: the value comes back by way of the other program. */
		execl(argv[2], argv[2], "return", argv[3], (char *)0);
		return 255;
	}
	if (argc > 2 && strcmp(argv[1], "pattern") == 0)
		return pattern(value);
	if (argc > 2 && strcmp(argv[1], "power") == 0) {
		power(value);
		return 1;
	}
	if (argc > 2 && strcmp(argv[1], "clock") == 0) {
		clocks(value);
		return 0;
	}
	for (unsigned i = 0; i < sizeof(tests) / sizeof(tests[0]); i++) {
		double start = now(CLOCK_MONOTONIC);

		if (argc < 2 || strcmp(argv[1], tests[i].name) != 0)
			continue;
		tests[i].run();
		printf("ok %s (%.1f s)\n", test, now(CLOCK_MONOTONIC) - start);
		return 0;
	}
	printf("usage: selfcheck TEST|clock SECONDS|pattern MIB|power STATUS; TEST is one of");
	for (unsigned i = 0; i < sizeof(tests) / sizeof(tests[0]); i++)
		printf(" %s", tests[i].name);
	printf("\n");
	return 2;
}
