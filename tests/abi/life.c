/* SPDX-License-Identifier: GPL-2.0 */
/* Processes and the module: forks, kills, unloading, memory that comes back. */
#define _GNU_SOURCE
#include "abi.h"
#include <sched.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define KILLS 20

static const unsigned char spin[] = { 0xfa, 0xeb, 0xfe };

/* Ends a child that is in KVM_RUN on a guest that never exits, or in a loop of its own; returns the milliseconds until it is gone. */
static double kill_spinning(int in_guest)
{
	int pipes[2], status;
	char byte;
	double start;
	pid_t child;

	if (pipe(pipes))
		return 1e9;
	child = fork();
	if (child == 0) {
		struct vm v;

		vm_make(&v);
		vm_code(&v, 0x1000, spin, sizeof(spin));
		if (!in_guest)
			close(v.vcpu), close(v.vm), close(v.dev);
		if (write(pipes[1], "x", 1) != 1)
			_exit(3);
		while (!in_guest)
			;
		ioctl(v.vcpu, KVM_RUN, 0);
		_exit(4);
	}
	if (read(pipes[0], &byte, 1) != 1)
		return 1e9;
	usleep(100000);
	start = now();
	kill(child, SIGKILL);
	waitpid(child, &status, 0);
	start = now() - start;
	TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
	close(pipes[0]);
	close(pipes[1]);
	return start * 1e3;
}

static double median_kill(int in_guest)
{
	double took[KILLS];

	for (int i = 0; i < KILLS; i++) {
		double ms = kill_spinning(in_guest);
		int at = i;

		for (; at > 0 && took[at - 1] > ms; at--)
			took[at] = took[at - 1];
		took[at] = ms;
	}
	return took[KILLS / 2];
}

static long locked_kb(void)
{
	char line[256];
	long kb = -1;
	FILE *f = fopen("/proc/self/status", "r");

	while (f && fgets(line, sizeof(line), f))
		sscanf(line, "VmLck: %ld", &kb);
	if (f)
		fclose(f);
	return kb;
}

static void another_process(struct vm *v)
{
	int status;
	pid_t child = fork();

	if (child == 0) {
		struct kvm_regs r;
		int bad = 0;

		bad |= ioctl(v->vcpu, KVM_GET_REGS, &r) != -1 || errno != EIO;
		bad |= ioctl(v->vcpu, KVM_RUN, 0) != -1 || errno != EIO;
		bad |= vm_region(v, 3, 0, 0x400000, 0x1000, v->mem) != -1 || errno != EIO;
		_exit(bad);
	}
	waitpid(child, &status, 0);
	TRUE(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

void test_life(void)
{
	struct vm v, w;
	double plain, guest;
	cpu_set_t one;

	vm_make(&v);
	another_process(&v);
	FAILS(EWOULDBLOCK, syscall(SYS_delete_module, "rvmm", O_NONBLOCK));
	IS(MEM_SIZE >> 10, locked_kb());
	/* Two VMs of one process, turn by turn, each on its own page tables and linear region. */
	vm_make(&w);
	static const unsigned char count[] = { 0x40, 0xe6, 0x10, 0xeb, 0xfb };
	vm_code(&v, 0x1000, count, sizeof(count));
	vm_code(&w, 0x1000, count, sizeof(count));
	for (int i = 1; i <= 100; i++) {
		struct vm *x = i & 1 ? &v : &w;
		cpu_set_t set;

		CPU_ZERO(&set);
		CPU_SET(i / 2 % sysconf(_SC_NPROCESSORS_ONLN), &set);
		sched_setaffinity(0, sizeof(set), &set);
		IS(0, ioctl(x->vcpu, KVM_RUN, 0));
		IS((i + 1) / 2, ((unsigned char *)x->run)[x->run->io.data_offset]);
	}
	CPU_ZERO(&one);
	for (int i = 0; i < sysconf(_SC_NPROCESSORS_ONLN); i++)
		CPU_SET(i, &one);
	sched_setaffinity(0, sizeof(one), &one);
	vm_drop(&w);
	vm_drop(&v);
	IS(0, locked_kb());
	plain = median_kill(0);
	guest = median_kill(1);
	printf("abi: kill -9 took %.1f ms in KVM_RUN and %.1f ms in a loop, by the median of %d\n", guest, plain, KILLS);
	/* An emulator that shares its processors with others loses time in both. */
	TRUE(guest < plain + 20);
}
