/* SPDX-License-Identifier: GPL-2.0 */
/* SET_CONSTANT_REGISTERS: what is answered without an exit, and what is not (docs/abi.md). And accesses whose answer is one no more. */
#define _GNU_SOURCE
#include "abi.h"

struct constants {
	uint32_t count, reserved;
	struct { uint64_t gpa; uint32_t value, reserved; } registers[8];
};

#define SET_CONSTANT_REGISTERS _IOW(0xe9, 5, struct constants)

/* The vCPU exits to read or write LEN bytes at GPA; what it writes. */
static uint32_t access_of(struct vm *v, uint64_t gpa, unsigned len, int write)
{
	IS(0, ioctl(v->vcpu, KVM_RUN, 0));
	IS(KVM_EXIT_MMIO, v->run->exit_reason);
	IS(gpa, v->run->mmio.phys_addr);
	IS(len, v->run->mmio.len);
	IS(write, v->run->mmio.is_write);
	return *(uint32_t *)v->run->mmio.data;
}

static struct kvm_regs halted(struct vm *v)
{
	struct kvm_regs r;

	IS(0, ioctl(v->vcpu, KVM_RUN, 0));
	IS(KVM_EXIT_HLT, v->run->exit_reason);
	IS(0, ioctl(v->vcpu, KVM_GET_REGS, &r));
	return r;
}

static void errors(struct vm *v)
{
	struct constants good = { 1, 0, { { 0x900020, 7, 0 } } }, bad;

	IS(0, ioctl(v->vcpu, SET_CONSTANT_REGISTERS, &good));
	FAILS(ENOTTY, ioctl(v->vm, SET_CONSTANT_REGISTERS, &good));
	FAILS(ENOTTY, ioctl(v->dev, SET_CONSTANT_REGISTERS, &good));
	FAILS(EFAULT, ioctl(v->vcpu, SET_CONSTANT_REGISTERS, 8));
	bad = good, bad.count = 9;
	FAILS(EINVAL, ioctl(v->vcpu, SET_CONSTANT_REGISTERS, &bad));
	bad = good, bad.count = 0;
	FAILS(EINVAL, ioctl(v->vcpu, SET_CONSTANT_REGISTERS, &bad));
	bad = good, bad.reserved = 1;
	FAILS(EINVAL, ioctl(v->vcpu, SET_CONSTANT_REGISTERS, &bad));
	bad = good, bad.registers[0].reserved = 1;
	FAILS(EINVAL, ioctl(v->vcpu, SET_CONSTANT_REGISTERS, &bad));
	bad = good, bad.registers[0].gpa = 0x900022;
	FAILS(EINVAL, ioctl(v->vcpu, SET_CONSTANT_REGISTERS, &bad));
}

static void answers(struct vm *v)
{
	/* mov ecx, 1000; again: mov eax, [0x900020]; add edx, eax; dec ecx; jnz again; hlt */
	static const unsigned char often[] = {
		0xb9, 0xe8, 3, 0, 0, 0xa1, 0x20, 0, 0x90, 0, 0x01, 0xc2, 0x49, 0x75, 0xf6, 0xf4,
	};
	/* mov bx, [0x900020]; mov ebx, [0x900024]; mov edx, [0x500]; hlt */
	static const unsigned char others[] = {
		0x66, 0x8b, 0x1d, 0x20, 0, 0x90, 0, 0x8b, 0x1d, 0x24, 0, 0x90, 0, 0x8b, 0x15, 0, 5, 0, 0, 0xf4,
	};
	/* or dword [0x900020], 16; hlt */
	static const unsigned char change[] = { 0x83, 0x0d, 0x20, 0, 0x90, 0, 16, 0xf4 };
	struct constants c = { 2, 0, { { 0x900020, 0x1234, 0 }, { 0x500, 99, 0 } } };
	struct kvm_regs r;

	IS(0, ioctl(v->vcpu, SET_CONSTANT_REGISTERS, &c));
	vm_restart(v, often, sizeof(often));
	r = halted(v);
	IS(0x1234 * 1000, r.rdx);

	*(uint32_t *)(v->mem + 0x500) = 5;
	vm_restart(v, others, sizeof(others));
	access_of(v, 0x900020, 2, 0);
	access_of(v, 0x900024, 4, 0);
	r = halted(v);
	IS(5, r.rdx);
	*(uint32_t *)(v->mem + 0x500) = 0;

	/* The write that follows from a read stays that write, whatever is told meanwhile. */
	vm_restart(v, change, sizeof(change));
	IS(0x1234 | 16, access_of(v, 0x900020, 4, 1));
	c.registers[0].value = 0x8888;
	IS(0, ioctl(v->vcpu, SET_CONSTANT_REGISTERS, &c));
	halted(v);
	vm_restart(v, often, sizeof(often));
	r = halted(v);
	IS(0x8888 * 1000, r.rdx);

	memset(&c, 0, sizeof(c));
	IS(0, ioctl(v->vcpu, SET_CONSTANT_REGISTERS, &c));
	vm_restart(v, often, sizeof(often));
	access_of(v, 0x900020, 4, 0);
	/* The rest of its thousand rounds is nobody's business. */
}

/* Another IA32_APIC_BASE ends them, the same one does not. */
static void moved(struct vm *v)
{
	/* mov ecx, 0x1b; rdmsr; wrmsr; mov ebx, [0x900020]; xor eax, 0x1000; wrmsr; mov eax, [0x900020]; hlt */
	static const unsigned char code[] = {
		0xb9, 0x1b, 0, 0, 0, 0x0f, 0x32, 0x0f, 0x30, 0x8b, 0x1d, 0x20, 0, 0x90, 0, 0x35, 0, 0x10, 0, 0, 0x0f, 0x30,
		0xa1, 0x20, 0, 0x90, 0, 0xf4,
	};
	struct kvm_regs r;
	struct { struct kvm_cpuid2 head; struct kvm_cpuid_entry2 entries[256]; } cpuid = { .head.nent = 256 };
	struct constants c = { 1, 0, { { 0x900020, 7, 0 } } };

	IS(0, ioctl(v->dev, KVM_GET_SUPPORTED_CPUID, &cpuid));
	/* A client with a local APIC says so. */
	for (unsigned i = 0; i < cpuid.head.nent; i++)
		if (cpuid.entries[i].function == 1)
			cpuid.entries[i].edx |= 1 << 9;
	IS(0, ioctl(v->vcpu, KVM_SET_CPUID2, &cpuid));
	IS(0, ioctl(v->vcpu, SET_CONSTANT_REGISTERS, &c));
	vm_restart(v, code, sizeof(code));
	access_of(v, 0x900020, 4, 0);
	r = halted(v);
	IS(7, r.rbx);
}

/* What was a device's is memory when the instruction goes on: it is not stopped by what it was answered before. */
static void becomes_memory(struct vm *v)
{
	/* mov esi, 0x900000; mov edi, 0xa00000; movsd; hlt */
	static const unsigned char code[] = { 0xbe, 0, 0, 0x90, 0, 0xbf, 0, 0, 0xa0, 0, 0xa5, 0xf4 };
	uint32_t *page = mmap(NULL, 0x1000, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	*page = 0x2468;
	vm_restart(v, code, sizeof(code));
	access_of(v, 0x900000, 4, 0);
	*(uint32_t *)v->run->mmio.data = 0x1357;
	IS(0, vm_region(v, 1, 0, 0x900000, 0x1000, page));
	IS(0x2468, access_of(v, 0xa00000, 4, 1));
	halted(v);
	munmap(page, 0x1000);
}

void test_constants(void)
{
	struct vm v;

	vm_make(&v);
	errors(&v);
	answers(&v);
	vm_drop(&v);
	vm_make(&v);
	becomes_memory(&v);
	vm_drop(&v);
	vm_make(&v);
	moved(&v);
	vm_drop(&v);
}
