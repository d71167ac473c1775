/* SPDX-License-Identifier: GPL-2.0 */
/* A client that means harm: each of these once hung a CPU, a thread, or took memory that nobody accounts for. */
#define _GNU_SOURCE
#include "abi.h"
#include <asm/ldt.h>
#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/syscall.h>

static void start(struct vm *v, const void *code, unsigned len, unsigned long flags)
{
	struct kvm_regs r = { .rip = 0x1000, .rflags = flags, .rsp = 0x8000 };

	vm_code(v, 0x1000, code, len);
	IS(0, ioctl(v->vcpu, KVM_SET_REGS, &r));
}

/* GS names an entry of the LDT that is gone when the switcher loads it again. */
static void stale_gs(struct vm *v)
{
	struct user_desc entry = { .entry_number = 0, .limit = 0xfffff, .seg_32bit = 1, .limit_in_pages = 1, .useable = 1 };
	struct user_desc empty = { .entry_number = 0, .read_exec_only = 1, .seg_not_present = 1 };
	static const unsigned char code[] = { 0x90, 0xf4 };

	for (int i = 0; i < 20; i++) {
		if (syscall(SYS_modify_ldt, 1, &entry, sizeof(entry))) {
			printf("abi: no LDT on this host, stale selectors not tried\n");
			return;
		}
		asm volatile("movw %w0, %%gs" : : "r" (7));
		IS(0, syscall(SYS_modify_ldt, 0x11, &empty, sizeof(empty)));
		start(v, code, sizeof(code), 2);
		IS(0, ioctl(v->vcpu, KVM_RUN, 0));
		IS(KVM_EXIT_HLT, v->run->exit_reason);
		asm volatile("movw %w0, %%gs" : : "r" (0));
	}
}

/* Breakpoints on the switcher's own interrupt stacks, while ring 3 runs. The area lies at a fixed address, in one of the first regions. */
static void breakpoints_above_the_guest(unsigned long region)
{
	static const uint64_t user[] = { 0x00cffb000000ffff, 0x00cff3000000ffff };
	static const unsigned tops[] = { 0xa00, 0xc00, 0xe00, 0x1000 };
	static const unsigned char code[] = { 0x90, 0x90, 0xf4 };
	struct kvm_debugregs d;
	struct kvm_sregs s;
	struct vm v;

	vm_make(&v);
	memcpy(v.mem + 0x518, user, sizeof(user));
	IS(0, ioctl(v.vcpu, KVM_GET_SREGS, &s));
	s.gdt.limit = 5 * 8 - 1;
	s.idt.limit = 0;
	s.cs.selector = 0x1b;
	s.ss.selector = s.ds.selector = s.es.selector = s.fs.selector = s.gs.selector = 0x23;
	s.cs.dpl = s.ss.dpl = s.ds.dpl = s.es.dpl = s.fs.dpl = s.gs.dpl = 3;
	IS(0, ioctl(v.vcpu, KVM_SET_SREGS, &s));
	IS(0, ioctl(v.vcpu, KVM_GET_DEBUGREGS, &d));
	/* Reads and writes of 8 bytes, all four. */
	d.dr7 = 0xbbbb0455;
	for (int i = 0; i < 4; i++)
		d.db[i] = 0xffff820000000000 + (region << 30) + 0x3000 + tops[i] - 8;
	IS(0, ioctl(v.vcpu, KVM_SET_DEBUGREGS, &d));
	start(&v, code, sizeof(code), 0x202);
	IS(0, ioctl(v.vcpu, KVM_RUN, 0));
	/* HLT faults in ring 3, and there is no IDT. */
	IS(KVM_EXIT_SHUTDOWN, v.run->exit_reason);
	vm_drop(&v);
}

/* Ranges that no guest has, announced as written. */
static void endless_announcement(struct vm *v)
{
	struct { uint64_t gpa, len; } range = { 0, UINT64_MAX };
	double begin = now();

	IS(0, ioctl(v->vm, _IOW(0xe9, 2, range), &range));
	range.gpa = 1UL << 40;
	IS(0, ioctl(v->vm, _IOW(0xe9, 2, range), &range));
	TRUE(now() - begin < 5);
}

/* A slot of 8 TiB, far beyond RLIMIT_MEMLOCK, must not cost the host 8 GiB first. */
static void slot_of_terabytes(struct vm *v)
{
	struct rlimit old, limit;
	double begin = now();

	IS(0, getrlimit(RLIMIT_MEMLOCK, &old));
	limit = old;
	limit.rlim_cur = 1 << 20;
	IS(0, setrlimit(RLIMIT_MEMLOCK, &limit));
	/* root has CAP_IPC_LOCK and is refused for the lack of memory, in time and without a warning of the kernel's. */
	FAILS(ENOMEM, vm_region(v, 9, 0, 1UL << 40, ((1UL << 31) - 1) << 12, (void *)0x100000000));
	TRUE(now() - begin < 5);
	IS(0, setrlimit(RLIMIT_MEMLOCK, &old));
}

static void on_signal(int sig)
{
	(void)sig;
}

static void *runs_too(void *arg)
{
	struct vm *v = arg;

	FAILS(EINTR, ioctl(v->vcpu, KVM_RUN, 0));
	return NULL;
}

/* A second KVM_RUN waits for the first, which never ends, until a signal comes. */
static void two_runs(struct vm *v)
{
	static const unsigned char spin[] = { 0xfa, 0xeb, 0xfe };
	struct sigaction act = { .sa_handler = on_signal };
	pthread_t first, second;

	sigaction(SIGUSR1, &act, NULL);
	start(v, spin, sizeof(spin), 2);
	pthread_create(&first, NULL, runs_too, v);
	usleep(100000);
	pthread_create(&second, NULL, runs_too, v);
	usleep(100000);
	pthread_kill(second, SIGUSR1);
	pthread_join(second, NULL);
	pthread_kill(first, SIGUSR1);
	pthread_join(first, NULL);
}

/* KVM_CREATE_VCPU without a descriptor to be had can be tried again. */
static void no_descriptor_left(void)
{
	struct rlimit old, limit;
	int dev = open("/dev/rvmm", O_RDWR | O_CLOEXEC), vm = ioctl(dev, KVM_CREATE_VM, 0), vcpu;

	IS(0, getrlimit(RLIMIT_NOFILE, &old));
	limit = old;
	limit.rlim_cur = vm + 1;
	IS(0, setrlimit(RLIMIT_NOFILE, &limit));
	FAILS(EMFILE, ioctl(vm, KVM_CREATE_VCPU, 0));
	IS(0, setrlimit(RLIMIT_NOFILE, &old));
	vcpu = ioctl(vm, KVM_CREATE_VCPU, 0);
	TRUE(vcpu >= 0);
	close(vcpu);
	close(vm);
	close(dev);
}

void test_hostile(void)
{
	struct vm v;

	vm_make(&v);
	stale_gs(&v);
	for (unsigned long region = 0; region < 4; region++)
		breakpoints_above_the_guest(region);
	endless_announcement(&v);
	slot_of_terabytes(&v);
	two_runs(&v);
	vm_drop(&v);
	no_descriptor_left();
}
