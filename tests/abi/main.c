/* SPDX-License-Identifier: GPL-2.0 */
/* The KVM ABI of /dev/rvmm, seen from a client in C with the kernel's own header: numbers, sizes, values, errors. */
#define _GNU_SOURCE
#include "abi.h"
#include <time.h>

int checks, failures;

double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec / 1e9;
}

int vm_region(struct vm *v, unsigned slot, unsigned flags, unsigned long long gpa, unsigned long long size, const void *hva)
{
	struct kvm_userspace_memory_region r = {
		.slot = slot, .flags = flags, .guest_phys_addr = gpa, .memory_size = size, .userspace_addr = (uintptr_t)hva,
	};

	return ioctl(v->vm, KVM_SET_USER_MEMORY_REGION, &r);
}

static struct kvm_segment flat(unsigned selector, unsigned type)
{
	struct kvm_segment s = {
		.selector = selector, .limit = 0xffffffff, .type = type, .present = 1, .db = 1, .s = 1, .g = 1,
	};
	return s;
}

void vm_make(struct vm *v)
{
	struct kvm_sregs s;
	struct kvm_regs r = { .rip = 0x1000, .rflags = 2, .rsp = 0x8000 };

	v->dev = open("/dev/rvmm", O_RDWR | O_CLOEXEC);
	v->vm = ioctl(v->dev, KVM_CREATE_VM, 0);
	v->mem = mmap(NULL, MEM_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (v->dev < 0 || v->vm < 0 || v->mem == MAP_FAILED || vm_region(v, 0, 0, 0, MEM_SIZE, v->mem)) {
		perror("vm_make");
		exit(2);
	}
	v->vcpu = ioctl(v->vm, KVM_CREATE_VCPU, 0);
	v->run = mmap(NULL, ioctl(v->dev, KVM_GET_VCPU_MMAP_SIZE, 0), PROT_READ | PROT_WRITE, MAP_SHARED, v->vcpu, 0);
	if (v->vcpu < 0 || v->run == MAP_FAILED || ioctl(v->vcpu, KVM_GET_SREGS, &s)) {
		perror("vm_make: vcpu");
		exit(2);
	}
	/* A GDT in guest memory, so that the segments can be loaded and run directly. */
	static const uint64_t gdt[] = { 0, 0x00cf9b000000ffff, 0x00cf93000000ffff };
	memcpy(v->mem + 0x500, gdt, sizeof(gdt));
	s.gdt.base = 0x500;
	s.gdt.limit = sizeof(gdt) - 1;
	s.cs = flat(8, 11);
	s.ds = s.es = s.fs = s.gs = s.ss = flat(16, 3);
	s.cr0 |= 1;
	if (ioctl(v->vcpu, KVM_SET_SREGS, &s) || ioctl(v->vcpu, KVM_SET_REGS, &r)) {
		perror("vm_make: state");
		exit(2);
	}
}

void vm_code(struct vm *v, unsigned at, const void *code, unsigned len)
{
	memcpy(v->mem + at, code, len);
}

/* The code at 1000, and the vCPU there. */
void vm_restart(struct vm *v, const void *code, unsigned len)
{
	struct kvm_regs r = { .rip = 0x1000, .rflags = 2, .rsp = 0x8000 };

	vm_code(v, 0x1000, code, len);
	IS(0, ioctl(v->vcpu, KVM_SET_REGS, &r));
}

void vm_drop(struct vm *v)
{
	munmap(v->run, ioctl(v->dev, KVM_GET_VCPU_MMAP_SIZE, 0));
	close(v->vcpu);
	close(v->vm);
	close(v->dev);
	munmap(v->mem, MEM_SIZE);
}

int main(void)
{
	static const struct { const char *name; void (*test)(void); } tests[] = {
		{ "device", test_device }, { "memory", test_memory }, { "state", test_state }, { "long", test_long }, { "run", test_run },
		{ "constants", test_constants }, { "xstate", test_xstate }, { "hostile", test_hostile }, { "life", test_life },
	};

	setvbuf(stdout, NULL, _IOLBF, 0);
	for (unsigned i = 0; i < sizeof(tests) / sizeof(*tests); i++) {
		int before = checks, bad = failures;

		tests[i].test();
		printf("abi: %-8s %3d checks, %d failed\n", tests[i].name, checks - before, failures - bad);
	}
	return failures != 0;
}
