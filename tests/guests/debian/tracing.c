/* SPDX-License-Identifier: GPL-2.0 */
/* Tests of the self-check that make the kernel change its own code while it runs: probes, function tracing, static keys. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

#define TRACING "/sys/kernel/tracing/"
#define PREEMPTION "/sys/kernel/debug/sched/preempt"

/* Writes to a file of the kernel; 0 or the error. */
static int try_put(const char *path, const char *text, int flags)
{
	int file = open(path, O_WRONLY | flags), status = file < 0 ? errno : 0;
	size_t len = strlen(text), done = 0;

	/* set_ftrace_filter takes one word at a time. */
	while (status == 0 && done < len) {
		ssize_t n = write(file, text + done, len - done);

		if (n <= 0)
			status = n < 0 ? errno : EIO;
		else
			done += n;
	}
	if (file >= 0)
		close(file);
	return status;
}

static void put(const char *path, const char *text)
{
	int status = try_put(path, text, 0);

	REQUIRE(status == 0, "'%s' to %s: %s", text, path, strerror(status));
}

/* Empties a file that its opening so empties. */
static void clear(const char *path)
{
	int status = try_put(path, "", O_TRUNC);

	REQUIRE(status == 0, "%s cannot be emptied: %s", path, strerror(status));
}

/* The number of lines of a file that have this word in them. */
static int lines_with(const char *path, const char *word)
{
	static char line[4096];
	int lines = 0;
	FILE *f = fopen(path, "r");

	REQUIRE(f, "no %s", path);
	while (fgets(line, sizeof(line), f))
		if (line[0] != '#' && strstr(line, word))
			lines++;
	fclose(f);
	return lines;
}

static void open_files(int times)
{
	for (int i = 0; i < times; i++) {
		int file = open("/dev/null", O_RDONLY);

		REQUIRE(file >= 0, "/dev/null");
		close(file);
	}
}

/* A load that uses much of the kernel and checks what it gets: words through a pipe, files, fresh memory. Until it is killed. */
static void work(void)
{
	static char sent[1000], got[1000];
	int ends[2];

	REQUIRE(pipe(ends) == 0, "pipe");
	for (unsigned turn = 0;; turn++) {
		char *page = mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

		REQUIRE(page != MAP_FAILED && page[turn % PAGE] == 0, "memory is not fresh");
		memset(sent, (int)turn, sizeof(sent));
		REQUIRE(write(ends[1], sent, sizeof(sent)) == sizeof(sent) && read(ends[0], got, sizeof(got)) == sizeof(got) &&
				memcmp(sent, got, sizeof(got)) == 0,
			"the pipe gave something else");
		open_files(1);
		munmap(page, PAGE);
		if (turn % 16 == 0)
			usleep(1);
	}
}

static pid_t loads[2];

static void start_load(void)
{
	for (unsigned i = 0; i < 2; i++) {
		loads[i] = fork_child();
		if (loads[i] == 0)
			work();
	}
}

static void stop_load(void)
{
	for (unsigned i = 0; i < 2; i++) {
		int status;

		kill(loads[i], SIGKILL);
		REQUIRE(waitpid(loads[i], &status, 0) == loads[i] && WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL,
			"the load ended by itself with %#x", status);
	}
}

/* How often a probe was hit, by the kernel's count; -1 if it is not there. */
static long hits(const char *probe)
{
	char line[256], name[128];
	long count, found = -1;
	FILE *f = fopen(TRACING "kprobe_profile", "r");

	REQUIRE(f, "no kprobe_profile");
	while (fgets(line, sizeof(line), f))
		if (sscanf(line, "%127s %ld", name, &count) == 2 && strcmp(name, probe) == 0)
			found = count;
	fclose(f);
	return found;
}

#define MIDDLES 6
/* Called once for each file that is opened, and a function of its own in every kernel. */
#define PROBED "do_sys_openat2"

/*
 * Probes at a function's begin, at its return, and at several instructions in its middle: by way of ftrace, by int3, and by a jump, which
 * the kernel puts there after a while.
 */
void kprobes(void)
{
	const int times = 500;
	char text[128], name[64];
	int middles = 0, hit = 0;

	clear(TRACING "kprobe_events");
	put(TRACING "buffer_size_kb", "64");
	put(TRACING "kprobe_events", "p:check_begin " PROBED "\n");
	REQUIRE(try_put(TRACING "kprobe_events", "r:check_return " PROBED " $retval\n", O_APPEND) == 0, "no return probe");
	/* The kernel takes only addresses at which an instruction begins. */
	for (int offset = 1; offset < 200 && middles < MIDDLES; offset++) {
		snprintf(text, sizeof(text), "p:check_middle%d " PROBED "+%d\n", middles, offset);
		if (try_put(TRACING "kprobe_events", text, O_APPEND) == 0)
			middles++;
	}
	REQUIRE(middles == MIDDLES, "only %d probes in the middle", middles);
	start_load();
	for (int round = 0; round < 3; round++) {
		long begins = hits("check_begin"), returns = hits("check_return"), after;

		put(TRACING "events/kprobes/enable", "1");
		/* Half with the int3, half after the kernel had time to put jumps in their places. */
		open_files(times / 2);
		usleep(300000);
		if (round == 0)
			printf("  %d of %d probes are jumps\n", lines_with("/sys/kernel/debug/kprobes/list", "[OPTIMIZED]"), middles);
		open_files(times / 2);
		put(TRACING "events/kprobes/enable", "0");
		after = hits("check_begin");
		REQUIRE(after - begins >= times, "%ld hits at the begin of %d calls", after - begins, times);
		REQUIRE(hits("check_return") - returns >= times, "%ld hits at the return of %d calls", hits("check_return") - returns, times);
		open_files(times);
		REQUIRE(hits("check_begin") == after, "hits while the probe is off");
	}
	stop_load();
	for (int i = 0; i < middles; i++) {
		snprintf(name, sizeof(name), "check_middle%d", i);
		/* A branch may go around it, but not now and then. */
		REQUIRE(hits(name) == 0 || hits(name) >= 3 * times, "%ld hits of %s", hits(name), name);
		hit += hits(name) != 0;
	}
	REQUIRE(hit > 0, "no probe in the middle was hit");
	clear(TRACING "trace");
	clear(TRACING "kprobe_events");
}

/* One tracer switched on under load: what it must show it shows, and nothing once it is off. */
static void trace_with(const char *tracer, const char *filter, const char *wanted, int reads)
{
	char byte;
	int zero = open("/dev/zero", O_RDONLY), lines;
	/* Written through O_TRUNC, the filter replaces the one before; an empty one means all functions. */
	int status = try_put(TRACING "set_ftrace_filter", filter, O_TRUNC);

	REQUIRE(zero >= 0 && status == 0, "filter '%s': %s", filter, strerror(status));
	clear(TRACING "trace");
	put(TRACING "current_tracer", tracer);
	for (int i = 0; i < reads; i++)
		REQUIRE(read(zero, &byte, 1) == 1 && byte == 0, "/dev/zero");
	put(TRACING "tracing_on", "0");
	lines = lines_with(TRACING "trace", wanted);
	REQUIRE(lines >= reads, "%s shows %d of %d calls of %s", tracer, lines, reads, wanted);
	put(TRACING "current_tracer", "nop");
	put(TRACING "tracing_on", "1");
	for (int i = 0; i < reads; i++)
		REQUIRE(read(zero, &byte, 1) == 1 && byte == 0, "/dev/zero");
	lines = lines_with(TRACING "trace", wanted);
	REQUIRE(lines == 0, "%d calls traced while the tracer is off", lines);
	close(zero);
}

/* Function tracing: entries and returns of some functions, entries of many (all whose names begin with v), and if everything is asked for of all. */
static void trace_functions(int everything)
{
	int functions = lines_with(TRACING "available_filter_functions", "");
	int graph = lines_with(TRACING "available_tracers", "function_graph");

	REQUIRE(functions > 10000, "only %d functions can be traced", functions);
	put(TRACING "buffer_size_kb", "4096");
	put(TRACING "trace_clock", "local");
	start_load();
	for (int round = 0; round < 3; round++)
		trace_with("function", "vfs_*", "vfs_read", 200);
	if (graph)
		trace_with("function_graph", "vfs_*", "vfs_read", 200);
	trace_with("function", "v*", "vfs_read", 20);
	if (everything)
		trace_with("function", "", "vfs_read", 20);
	stop_load();
	put(TRACING "buffer_size_kb", "64");
	printf("  %s of %d functions, return tracing %s\n", everything ? "all" : "some", functions, graph ? "too" : "absent");
}

void ftrace(void)
{
	trace_functions(0);
}

void ftrace_all(void)
{
	trace_functions(1);
}

/* Files whose value decides a static key or a static call; those that a kernel does not have are left out, with a word. */
static void flip(const char *path, const char *value)
{
	int status = try_put(path, value, 0);

	REQUIRE(status == 0 || status == ENOENT, "'%s' to %s: %s", value, path, strerror(status));
}

/* The mode of preemption that is on: the word in brackets, or nothing if the kernel has no such file. */
static void preemption_mode(char mode[32])
{
	char line[128] = "", *begin, *end;
	FILE *f = fopen(PREEMPTION, "r");

	mode[0] = 0;
	if (!f)
		return;
	if (fgets(line, sizeof(line), f) && (begin = strchr(line, '(')) && (end = strchr(begin, ')')))
		snprintf(mode, 32, "%.*s", (int)(end - begin - 1), begin + 1);
	fclose(f);
}

/* The switches of static keys and static calls are flipped while a load runs whose code has them. */
void statics(void)
{
	static const char *const switches[] = { "/proc/sys/kernel/sched_schedstats",	"/proc/sys/kernel/task_delayacct",
						TRACING "events/sched/sched_switch/enable",	TRACING "events/kmem/kmem_cache_alloc/enable",
						TRACING "events/raw_syscalls/enable",	TRACING "events/exceptions/page_fault_user/enable" };
	static const char *const preemption[] = { "none", "voluntary", "full", "lazy" };
	/* At least once to each of the modes of preemption. */
	const int rounds = share() > 1 ? 4 : 10;
	const unsigned count = sizeof(switches) / sizeof(switches[0]);
	int there = 0, modes = 0;
	char original[32];

	for (unsigned i = 0; i < count; i++)
		if (access(switches[i], W_OK) == 0)
			there++;
	REQUIRE(there >= 4, "only %d switches", there);
	preemption_mode(original);
	put(TRACING "buffer_size_kb", "64");
	start_load();
	for (int round = 0; round < rounds; round++) {
		int on = 1, stamps = socket(AF_UNIX, SOCK_DGRAM, 0);

		for (unsigned i = 0; i < count; i++)
			flip(switches[i], "1");
		/* The key of time stamps for packets. */
		REQUIRE(stamps < 0 || setsockopt(stamps, SOL_SOCKET, SO_TIMESTAMP, &on, sizeof(on)) == 0, "SO_TIMESTAMP");
		usleep(2000);
		for (unsigned i = 0; i < count; i++)
			flip(switches[i], "0");
		if (stamps >= 0)
			close(stamps);
		/* Static calls: which function a point of preemption calls. */
		if (original[0] && try_put(PREEMPTION, preemption[round % 4], 0) == 0)
			modes++;
	}
	if (original[0])
		put(PREEMPTION, original);
	clear(TRACING "trace");
	usleep(20000);
	REQUIRE(lines_with(TRACING "trace", "sched_switch") == 0, "tasks' switches are traced while the event is off");
	put(TRACING "events/sched/sched_switch/enable", "1");
	usleep(50000);
	put(TRACING "events/sched/sched_switch/enable", "0");
	REQUIRE(lines_with(TRACING "trace", "sched_switch") > 0, "no switch of tasks is traced");
	stop_load();
	printf("  %d switches flipped %d times, %d changes of the preemption mode\n", there, rounds, modes);
}
