/* SPDX-License-Identifier: GPL-2.0 */
/* KVM_RUN: exits with their data, interrupts in, immediate_exit, signals, other threads. */
#define _GNU_SOURCE
#include "abi.h"
#include <pthread.h>
#include <signal.h>
#include <sys/time.h>

static void io(struct vm *v)
{
	/* in al, 0x10; out 0x20, al; in eax, dx; mov [0x900000], eax; mov bx, [0x900004]; hlt */
	static const unsigned char code[] = {
		0xe4, 0x10, 0xe6, 0x20, 0xba, 0x34, 0x12, 0, 0, 0xed, 0xa3, 0, 0, 0x90, 0, 0x66, 0x8b, 0x1d, 4, 0, 0x90, 0, 0xf4,
	};
	struct kvm_regs r;
	unsigned char *data = (unsigned char *)v->run;

	vm_restart(v, code, sizeof(code));
	IS(0, ioctl(v->vcpu, KVM_RUN, 0));
	IS(KVM_EXIT_IO, v->run->exit_reason);
	IS(KVM_EXIT_IO_IN, v->run->io.direction);
	IS(1, v->run->io.size);
	IS(0x10, v->run->io.port);
	IS(1, v->run->io.count);
	data += v->run->io.data_offset;
	*data = 0x5a;
	/* Another CR8 with the answer does not cost the answer: the port is not read again. */
	v->run->cr8 = 3;
	IS(0, ioctl(v->vcpu, KVM_RUN, 0));
	IS(3, v->run->cr8);
	v->run->cr8 = 0;
	IS(KVM_EXIT_IO, v->run->exit_reason);
	IS(KVM_EXIT_IO_OUT, v->run->io.direction);
	IS(0x20, v->run->io.port);
	IS(0x5a, *data);
	IS(0, ioctl(v->vcpu, KVM_RUN, 0));
	IS(KVM_EXIT_IO, v->run->exit_reason);
	IS(4, v->run->io.size);
	IS(0x1234, v->run->io.port);
	*(uint32_t *)data = 0xdeadbeef;
	IS(0, ioctl(v->vcpu, KVM_RUN, 0));
	IS(KVM_EXIT_MMIO, v->run->exit_reason);
	IS(0x900000, v->run->mmio.phys_addr);
	IS(1, v->run->mmio.is_write);
	IS(4, v->run->mmio.len);
	IS(0xdeadbeef, *(uint32_t *)v->run->mmio.data);
	IS(0, ioctl(v->vcpu, KVM_RUN, 0));
	IS(KVM_EXIT_MMIO, v->run->exit_reason);
	IS(0x900004, v->run->mmio.phys_addr);
	IS(0, v->run->mmio.is_write);
	IS(2, v->run->mmio.len);
	*(uint16_t *)v->run->mmio.data = 0x4321;
	IS(0, ioctl(v->vcpu, KVM_RUN, 0));
	IS(KVM_EXIT_HLT, v->run->exit_reason);
	IS(0, ioctl(v->vcpu, KVM_GET_REGS, &r));
	IS(0x4321, r.rbx);
	IS(0x1000 + sizeof(code), r.rip);
}

static void interrupts(struct vm *v)
{
	/* sti; nop; jmp $ -- and a handler at 0x2000: inc ecx; hlt */
	static const unsigned char code[] = { 0xfb, 0x90, 0xeb, 0xfe }, handler[] = { 0x41, 0xf4 };
	static const uint64_t gate = 0x00008e0000082000;
	struct kvm_interrupt irq = { .irq = 0x30 };
	struct kvm_sregs s;
	struct kvm_regs r;

	memcpy(v->mem + 0x600 + 8 * 0x30, &gate, 8);
	vm_code(v, 0x2000, handler, sizeof(handler));
	IS(0, ioctl(v->vcpu, KVM_GET_SREGS, &s));
	s.idt.base = 0x600;
	s.idt.limit = 0x7ff;
	IS(0, ioctl(v->vcpu, KVM_SET_SREGS, &s));
	vm_restart(v, code, sizeof(code));
	v->run->request_interrupt_window = 1;
	IS(0, ioctl(v->vcpu, KVM_RUN, 0));
	IS(KVM_EXIT_IRQ_WINDOW_OPEN, v->run->exit_reason);
	IS(1, v->run->ready_for_interrupt_injection);
	IS(1, v->run->if_flag);
	v->run->request_interrupt_window = 0;
	IS(0, ioctl(v->vcpu, KVM_INTERRUPT, &irq));
	IS(0, ioctl(v->vcpu, KVM_RUN, 0));
	IS(KVM_EXIT_HLT, v->run->exit_reason);
	IS(0, v->run->if_flag);
	IS(0, ioctl(v->vcpu, KVM_GET_REGS, &r));
	IS(1, r.rcx);
	IS(0x2002, r.rip);
}

static const unsigned char spin[] = { 0xfa, 0xeb, 0xfe };

static void on_alarm(int sig)
{
	(void)sig;
}

static void *deletes_a_slot(void *arg)
{
	struct vm *v = arg;
	double start;
	void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	usleep(50000);
	start = now();
	IS(0, vm_region(v, 7, 0, 0x700000, 0x1000, page));
	IS(0, vm_region(v, 7, 0, 0x700000, 0, NULL));
	printf("abi: two memory calls beside a spinning guest took %.1f ms\n", (now() - start) * 1e3);
	TRUE(now() - start < 0.5);
	return NULL;
}

static void interruptions(struct vm *v)
{
	struct sigaction act = { .sa_handler = on_alarm };
	struct itimerval timer = { .it_value.tv_usec = 200000 };
	struct { uint32_t len; unsigned char set[8]; } __attribute__((packed)) mask = { 8, { 0 } };
	sigset_t blocked, pending;
	pthread_t thread;
	double start;

	vm_restart(v, spin, sizeof(spin));
	v->run->immediate_exit = 1;
	FAILS(EINTR, ioctl(v->vcpu, KVM_RUN, 0));
	v->run->immediate_exit = 0;

	sigaction(SIGALRM, &act, NULL);
	pthread_create(&thread, NULL, deletes_a_slot, v);
	start = now();
	setitimer(ITIMER_REAL, &timer, NULL);
	FAILS(EINTR, ioctl(v->vcpu, KVM_RUN, 0));
	IS(KVM_EXIT_INTR, v->run->exit_reason);
	printf("abi: a signal due after 200 ms ended KVM_RUN after %.1f ms\n", (now() - start) * 1e3);
	TRUE(now() - start < 1.0);
	pthread_join(thread, NULL);

	/* Blocked for the thread, let through by the mask in force during KVM_RUN: EINTR, and the signal stays pending. */
	sigemptyset(&blocked);
	sigaddset(&blocked, SIGALRM);
	sigprocmask(SIG_BLOCK, &blocked, NULL);
	IS(0, ioctl(v->vcpu, KVM_SET_SIGNAL_MASK, &mask));
	setitimer(ITIMER_REAL, &timer, NULL);
	FAILS(EINTR, ioctl(v->vcpu, KVM_RUN, 0));
	sigpending(&pending);
	TRUE(sigismember(&pending, SIGALRM));
	mask.len = 4;
	FAILS(EINVAL, ioctl(v->vcpu, KVM_SET_SIGNAL_MASK, &mask));
	IS(0, ioctl(v->vcpu, KVM_SET_SIGNAL_MASK, NULL));
	sigprocmask(SIG_UNBLOCK, &blocked, NULL);
}

static void shutdown_by_triple_fault(struct vm *v)
{
	static const unsigned char ud2[] = { 0x0f, 0x0b };
	struct kvm_sregs s;

	IS(0, ioctl(v->vcpu, KVM_GET_SREGS, &s));
	s.idt.limit = 0;
	IS(0, ioctl(v->vcpu, KVM_SET_SREGS, &s));
	vm_restart(v, ud2, sizeof(ud2));
	IS(0, ioctl(v->vcpu, KVM_RUN, 0));
	IS(KVM_EXIT_SHUTDOWN, v->run->exit_reason);
}

void test_run(void)
{
	struct vm v;

	vm_make(&v);
	io(&v);
	interrupts(&v);
	interruptions(&v);
	shutdown_by_triple_fault(&v);
	vm_drop(&v);
}
