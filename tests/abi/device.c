/* SPDX-License-Identifier: GPL-2.0 */
/* The device node: versions, capabilities, lists that do not fit, unknown numbers. */
#define _GNU_SOURCE
#include "abi.h"

/* The sizes that the numbers encode are the kernel header's; these are the ABI's own, so that a changed header is noticed too. */
_Static_assert(sizeof(struct kvm_regs) == 144 && sizeof(struct kvm_sregs) == 312 && sizeof(struct kvm_fpu) == 416, "state");
_Static_assert(sizeof(struct kvm_vcpu_events) == 64 && sizeof(struct kvm_debugregs) == 128, "events");
_Static_assert(sizeof(struct kvm_userspace_memory_region) == 32 && sizeof(struct kvm_cpuid_entry2) == 40, "lists");
_Static_assert(offsetof(struct kvm_run, io) == 32 && offsetof(struct kvm_run, mmio) == 32, "run");
_Static_assert(offsetof(struct kvm_run, exit_reason) == 8 && offsetof(struct kvm_run, cr8) == 16, "run");
_Static_assert(sizeof(struct kvm_run) <= 3072, "port data lies behind kvm_run");

static void lists(int dev)
{
	struct { struct kvm_cpuid2 head; struct kvm_cpuid_entry2 e[256]; } c = { .head.nent = 1 };
	struct { struct kvm_msr_list head; uint32_t i[512]; } m = { .head.nmsrs = 0 };
	unsigned n;

	FAILS(E2BIG, ioctl(dev, KVM_GET_SUPPORTED_CPUID, &c));
	c.head.nent = 256;
	IS(0, ioctl(dev, KVM_GET_SUPPORTED_CPUID, &c));
	TRUE(c.head.nent > 4 && c.head.nent < 256);
	n = c.head.nent;
	c.head.nent = n;
	IS(0, ioctl(dev, KVM_GET_SUPPORTED_CPUID, &c));
	c.head.nent = n - 1;
	FAILS(E2BIG, ioctl(dev, KVM_GET_SUPPORTED_CPUID, &c));
	IS(0, c.e[0].function);
	FAILS(EFAULT, ioctl(dev, KVM_GET_SUPPORTED_CPUID, (void *)8));

	FAILS(E2BIG, ioctl(dev, KVM_GET_MSR_INDEX_LIST, &m));
	TRUE(m.head.nmsrs > 4);
	IS(0, ioctl(dev, KVM_GET_MSR_INDEX_LIST, &m));
	FAILS(EFAULT, ioctl(dev, KVM_GET_MSR_INDEX_LIST, (void *)8));
}

void test_device(void)
{
	static const int caps[] = {
		KVM_CAP_USER_MEMORY, KVM_CAP_SET_TSS_ADDR, KVM_CAP_EXT_CPUID, KVM_CAP_NR_VCPUS, KVM_CAP_MP_STATE,
		KVM_CAP_DESTROY_MEMORY_REGION_WORKS, KVM_CAP_USER_NMI, KVM_CAP_JOIN_MEMORY_REGIONS_WORKS, KVM_CAP_SET_IDENTITY_MAP_ADDR,
		KVM_CAP_INTERNAL_ERROR_DATA, KVM_CAP_VCPU_EVENTS, KVM_CAP_DEBUGREGS, KVM_CAP_GET_TSC_KHZ, KVM_CAP_MAX_VCPUS,
		KVM_CAP_READONLY_MEM, KVM_CAP_CHECK_EXTENSION_VM, KVM_CAP_MAX_VCPU_ID, KVM_CAP_IMMEDIATE_EXIT, KVM_CAP_XSAVE, KVM_CAP_XCRS,
	};
	static const int absent[] = { KVM_CAP_IRQCHIP, KVM_CAP_XSAVE2, KVM_CAP_IOEVENTFD, KVM_CAP_NESTED_STATE, KVM_CAP_SYNC_REGS, 9999 };
	int dev = open("/dev/rvmm", O_RDWR | O_CLOEXEC), vm;

	TRUE(dev >= 0);
	IS(12, ioctl(dev, KVM_GET_API_VERSION, 0));
	FAILS(EINVAL, ioctl(dev, KVM_GET_API_VERSION, 1));
	for (unsigned i = 0; i < sizeof(caps) / sizeof(*caps); i++)
		IS(1, ioctl(dev, KVM_CHECK_EXTENSION, caps[i]));
	for (unsigned i = 0; i < sizeof(absent) / sizeof(*absent); i++)
		IS(0, ioctl(dev, KVM_CHECK_EXTENSION, absent[i]));
	TRUE(ioctl(dev, KVM_CHECK_EXTENSION, KVM_CAP_NR_MEMSLOTS) >= 32);
	TRUE(ioctl(dev, KVM_GET_VCPU_MMAP_SIZE, 0) >= (int)sizeof(struct kvm_run));
	IS(0, ioctl(dev, KVM_GET_VCPU_MMAP_SIZE, 0) % 4096);
	FAILS(EINVAL, ioctl(dev, KVM_GET_VCPU_MMAP_SIZE, 1));
	FAILS(ENOTTY, ioctl(dev, _IO(KVMIO, 0xfe), 0));
	FAILS(ENOTTY, ioctl(dev, KVM_RUN, 0));
	FAILS(EINVAL, ioctl(dev, KVM_CREATE_VM, 12345));
	lists(dev);

	vm = ioctl(dev, KVM_CREATE_VM, 0);
	TRUE(vm >= 0);
	IS(1, fcntl(vm, F_GETFD) & FD_CLOEXEC);
	IS(1, ioctl(vm, KVM_CHECK_EXTENSION, KVM_CAP_USER_MEMORY));
	FAILS(ENOTTY, ioctl(vm, KVM_GET_API_VERSION, 0));
	FAILS(ENOTTY, ioctl(vm, KVM_CREATE_IRQCHIP, 0));
	FAILS(EINVAL, ioctl(vm, KVM_CREATE_VCPU, 1));
	int vcpu = ioctl(vm, KVM_CREATE_VCPU, 0);
	TRUE(vcpu >= 0);
	TRUE(ioctl(vm, KVM_CREATE_VCPU, 0) == -1);
	FAILS(ENOTTY, ioctl(vcpu, KVM_CREATE_VCPU, 0));
	FAILS(EINVAL, ioctl(vcpu, KVM_RUN, 1));
	TRUE(mmap(NULL, 4096, PROT_READ, MAP_SHARED, vcpu, 4096 * 16) == MAP_FAILED);
	close(vcpu);
	close(vm);
	close(dev);
}
