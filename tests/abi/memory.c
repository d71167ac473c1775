/* SPDX-License-Identifier: GPL-2.0 */
/* Memory slots: what is refused, and what the guest sees of additions, deletions, moves and read-only slots. */
#define _GNU_SOURCE
#include "abi.h"

static void refusals(struct vm *v, unsigned char *extra)
{
	FAILS(EINVAL, vm_region(v, 1, 0, 0x200001, 0x1000, extra));
	FAILS(EINVAL, vm_region(v, 1, 0, 0x200000, 0x1001, extra));
	FAILS(EINVAL, vm_region(v, 1, 0, 0x200000, 0x1000, extra + 1));
	FAILS(EINVAL, vm_region(v, 1, 0x80, 0x200000, 0x1000, extra));
	FAILS(EINVAL, vm_region(v, 1, 0, 0xfffffffffffff000, 0x2000, extra));
	FAILS(EINVAL, vm_region(v, 1, 0, 0x200000, 0, extra));
	FAILS(EINVAL, vm_region(v, 100000, 0, 0x200000, 0x1000, extra));
	FAILS(EINVAL, vm_region(v, 1, 0, 0x200000, 0x1000, (void *)0xffffffffff000000));
	FAILS(EEXIST, vm_region(v, 1, 0, 0, 0x1000, extra));
	FAILS(EEXIST, vm_region(v, 1, 0, MEM_SIZE - 0x1000, 0x2000, extra));
	FAILS(EFAULT, ioctl(v->vm, KVM_SET_USER_MEMORY_REGION, (void *)8));
	IS(0, vm_region(v, 1, 0, 0x200000, 0x1000, extra));
	IS(0, vm_region(v, 1, 0, 0x200000, 0x1000, extra));
	FAILS(EINVAL, vm_region(v, 1, 0, 0x200000, 0x2000, extra));
	FAILS(EINVAL, vm_region(v, 1, 0, 0x200000, 0x1000, extra + 0x1000));
	FAILS(EINVAL, vm_region(v, 1, KVM_MEM_READONLY, 0x200000, 0x1000, extra));
	IS(0, vm_region(v, 1, 0, 0x200000, 0, extra));
	FAILS(EINVAL, vm_region(v, 1, 0, 0x200000, 0, extra));
}

/* mov eax, [at]; hlt, from a fresh start. Returns eax, or -1 for an MMIO exit. */
static long peek(struct vm *v, unsigned at)
{
	unsigned char code[] = { 0xa1, at, at >> 8, at >> 16, at >> 24, 0xf4 };
	struct kvm_regs r = { .rip = 0x1000, .rflags = 2, .rsp = 0x8000 };

	vm_code(v, 0x1000, code, sizeof(code));
	ioctl(v->vcpu, KVM_SET_REGS, &r);
	if (ioctl(v->vcpu, KVM_RUN, 0))
		return -2;
	if (v->run->exit_reason == KVM_EXIT_MMIO)
		return -1;
	ioctl(v->vcpu, KVM_GET_REGS, &r);
	return v->run->exit_reason == KVM_EXIT_HLT ? (long)r.rax : -3;
}

void test_memory(void)
{
	struct vm v;
	unsigned char *extra = mmap(NULL, 0x4000, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	unsigned char poke[] = { 0xc7, 0x05, 0x00, 0x00, 0x20, 0x00, 0x78, 0x56, 0x34, 0x12, 0xf4 };
	struct kvm_regs r = { .rip = 0x1000, .rflags = 2, .rsp = 0x8000 };
	uint64_t identity = 0xfffbc000;

	vm_make(&v);
	refusals(&v, extra);
	IS(0, ioctl(v.vm, KVM_SET_TSS_ADDR, 0xfffbd000));
	FAILS(EINVAL, ioctl(v.vm, KVM_SET_TSS_ADDR, 0xfffff000));
	FAILS(EINVAL, ioctl(v.vm, KVM_SET_IDENTITY_MAP_ADDR, &identity));

	*(uint32_t *)extra = 0x1111;
	*(uint32_t *)(extra + 0x1000) = 0x2222;
	IS(-1, peek(&v, 0x200000));
	IS(0, vm_region(&v, 1, 0, 0x200000, 0x1000, extra));
	IS(0x1111, peek(&v, 0x200000));
	IS(0, vm_region(&v, 1, 0, 0x300000, 0x1000, extra));
	IS(-1, peek(&v, 0x200000));
	IS(0x1111, peek(&v, 0x300000));
	IS(0, vm_region(&v, 1, 0, 0x300000, 0, NULL));
	IS(-1, peek(&v, 0x300000));
	IS(0, vm_region(&v, 1, 0, 0x200000, 0x1000, extra + 0x1000));
	IS(0x2222, peek(&v, 0x200000));
	IS(0, vm_region(&v, 1, 0, 0x200000, 0, NULL));

	/* Read-only: reads come from memory, writes go to the client. */
	IS(0, vm_region(&v, 1, KVM_MEM_READONLY, 0x200000, 0x1000, extra));
	IS(0x1111, peek(&v, 0x200000));
	vm_code(&v, 0x1000, poke, sizeof(poke));
	ioctl(v.vcpu, KVM_SET_REGS, &r);
	IS(0, ioctl(v.vcpu, KVM_RUN, 0));
	IS(KVM_EXIT_MMIO, v.run->exit_reason);
	IS(0x200000, v.run->mmio.phys_addr);
	IS(4, v.run->mmio.len);
	IS(1, v.run->mmio.is_write);
	IS(0x12345678, *(uint32_t *)v.run->mmio.data);
	IS(0x1111, *(uint32_t *)extra);
	IS(0, ioctl(v.vcpu, KVM_RUN, 0));
	IS(KVM_EXIT_HLT, v.run->exit_reason);

	/* A slot over memory that is not there stops the guest, and nothing else. */
	munmap(extra, 0x4000);
	IS(0, vm_region(&v, 2, 0, 0x400000, 0x1000, extra + 0x2000));
	ioctl(v.vcpu, KVM_SET_REGS, &r);
	peek(&v, 0x400000);
	TRUE(v.run->exit_reason == KVM_EXIT_INTERNAL_ERROR || v.run->exit_reason == KVM_EXIT_UNKNOWN);
	vm_drop(&v);
}
