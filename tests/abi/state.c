/* SPDX-License-Identifier: GPL-2.0 */
/* State in and out: what is set is got back, what cannot be is refused. */
#define _GNU_SOURCE
#include "abi.h"

static void registers(struct vm *v)
{
	struct kvm_regs r, back;
	struct kvm_sregs s, s2;
	struct kvm_fpu f, f2;

	for (unsigned i = 0; i < sizeof(r) / 8; i++)
		((uint64_t *)&r)[i] = 0x1000 + i;
	r.rflags = 0x246;
	IS(0, ioctl(v->vcpu, KVM_SET_REGS, &r));
	IS(0, ioctl(v->vcpu, KVM_GET_REGS, &back));
	IS(0, memcmp(&r, &back, sizeof(r)));
	FAILS(EFAULT, ioctl(v->vcpu, KVM_GET_REGS, (void *)8));
	FAILS(EFAULT, ioctl(v->vcpu, KVM_SET_REGS, (void *)8));

	IS(0, ioctl(v->vcpu, KVM_GET_SREGS, &s));
	s.cr2 = 0x1234;
	s.fs.base = 0x5000;
	s.gs.limit = 0xfff;
	s.gs.g = 0;
	s.ldt.unusable = 1;
	IS(0, ioctl(v->vcpu, KVM_SET_SREGS, &s));
	IS(0, ioctl(v->vcpu, KVM_GET_SREGS, &s2));
	IS(0x1234, s2.cr2);
	IS(0x5000, s2.fs.base);
	IS(0, memcmp(&s.gs, &s2.gs, sizeof(s.gs)));
	IS(1, s2.ldt.unusable);
	s2 = s;
	s2.cr0 = (s.cr0 & ~1ull) | 0x80000000;
	FAILS(EINVAL, ioctl(v->vcpu, KVM_SET_SREGS, &s2));
	s2 = s;
	s2.cr4 |= 1ull << 40;
	FAILS(EINVAL, ioctl(v->vcpu, KVM_SET_SREGS, &s2));
	s2 = s;
	s2.efer |= 0x500;
	FAILS(EINVAL, ioctl(v->vcpu, KVM_SET_SREGS, &s2));

	memset(&f, 0, sizeof(f));
	f.fcw = 0x27f;
	f.mxcsr = 0x1fa0;
	f.ftwx = 3;
	for (unsigned i = 0; i < 16; i++)
		f.xmm[i][0] = i + 1;
	for (unsigned i = 0; i < 8; i++)
		f.fpr[i][0] = 0x80 + i;
	IS(0, ioctl(v->vcpu, KVM_SET_FPU, &f));
	IS(0, ioctl(v->vcpu, KVM_GET_FPU, &f2));
	IS(0, memcmp(&f, &f2, sizeof(f)));
	f.mxcsr = 0x10000;
	FAILS(EINVAL, ioctl(v->vcpu, KVM_SET_FPU, &f));
}

static void msrs(struct vm *v)
{
	struct { struct kvm_msrs head; struct kvm_msr_entry e[4]; } m = {
		.head.nmsrs = 3, .e = { { .index = 0x174, .data = 0x60 }, { .index = 0x175, .data = 0x1234 }, { .index = 0x176, .data = 0x5678 } },
	};

	IS(3, ioctl(v->vcpu, KVM_SET_MSRS, &m));
	m.e[0].data = m.e[1].data = m.e[2].data = 0;
	IS(3, ioctl(v->vcpu, KVM_GET_MSRS, &m));
	IS(0x60, m.e[0].data);
	IS(0x1234, m.e[1].data);
	IS(0x5678, m.e[2].data);
	m.e[1].index = 0x12345;
	IS(1, ioctl(v->vcpu, KVM_SET_MSRS, &m));
	IS(1, ioctl(v->vcpu, KVM_GET_MSRS, &m));
	m.head.nmsrs = 1000;
	FAILS(E2BIG, ioctl(v->vcpu, KVM_GET_MSRS, &m));
	FAILS(E2BIG, ioctl(v->vcpu, KVM_SET_MSRS, &m));
	m.head.nmsrs = 1;
	m.e[0].index = 0x10;
	IS(1, ioctl(v->vcpu, KVM_GET_MSRS, &m));
	TRUE(m.e[0].data != 0);
	TRUE(ioctl(v->vcpu, KVM_GET_TSC_KHZ, 0) > 0);
}

static void lists(struct vm *v)
{
	struct { struct kvm_cpuid2 head; struct kvm_cpuid_entry2 e[4]; } c = { .head.nent = 2, .e = { { .function = 0, .eax = 1 }, { .function = 1, .edx = 1 } } };

	IS(0, ioctl(v->vcpu, KVM_SET_CPUID2, &c));
	c.head.nent = 1;
	FAILS(E2BIG, ioctl(v->vcpu, KVM_GET_CPUID2, &c));
	c.head.nent = 4;
	IS(0, ioctl(v->vcpu, KVM_GET_CPUID2, &c));
	IS(2, c.head.nent);
	IS(1, c.e[1].edx);
	c.head.nent = 100000;
	FAILS(E2BIG, ioctl(v->vcpu, KVM_SET_CPUID2, &c));
}

static void events(struct vm *v)
{
	struct kvm_vcpu_events e;
	struct kvm_debugregs d, d2;
	struct kvm_mp_state mp;
	struct kvm_interrupt irq = { .irq = 0x30 };

	IS(0, ioctl(v->vcpu, KVM_GET_VCPU_EVENTS, &e));
	IS(0, e.interrupt.injected);
	IS(0, ioctl(v->vcpu, KVM_INTERRUPT, &irq));
	FAILS(EEXIST, ioctl(v->vcpu, KVM_INTERRUPT, &irq));
	IS(0, ioctl(v->vcpu, KVM_GET_VCPU_EVENTS, &e));
	IS(1, e.interrupt.injected);
	IS(0x30, e.interrupt.nr);
	e.interrupt.injected = 0;
	e.nmi.masked = 1;
	e.interrupt.shadow = KVM_X86_SHADOW_INT_STI;
	e.flags = KVM_VCPUEVENT_VALID_SHADOW;
	IS(0, ioctl(v->vcpu, KVM_SET_VCPU_EVENTS, &e));
	IS(0, ioctl(v->vcpu, KVM_GET_VCPU_EVENTS, &e));
	IS(0, e.interrupt.injected);
	IS(1, e.nmi.masked);
	IS(KVM_X86_SHADOW_INT_STI, e.interrupt.shadow);
	e.flags = 0x8000;
	FAILS(EINVAL, ioctl(v->vcpu, KVM_SET_VCPU_EVENTS, &e));
	irq.irq = 256;
	FAILS(EINVAL, ioctl(v->vcpu, KVM_INTERRUPT, &irq));
	IS(0, ioctl(v->vcpu, KVM_NMI, 0));

	IS(0, ioctl(v->vcpu, KVM_GET_DEBUGREGS, &d));
	d.db[2] = 0x1234;
	d.dr7 = 0x402;
	IS(0, ioctl(v->vcpu, KVM_SET_DEBUGREGS, &d));
	IS(0, ioctl(v->vcpu, KVM_GET_DEBUGREGS, &d2));
	IS(0, memcmp(&d, &d2, sizeof(d)));
	d.flags = 1;
	FAILS(EINVAL, ioctl(v->vcpu, KVM_SET_DEBUGREGS, &d));
	d.flags = 0;
	d.dr7 = 1ull << 32;
	FAILS(EINVAL, ioctl(v->vcpu, KVM_SET_DEBUGREGS, &d));

	IS(0, ioctl(v->vcpu, KVM_GET_MP_STATE, &mp));
	IS(KVM_MP_STATE_RUNNABLE, mp.mp_state);
	IS(0, ioctl(v->vcpu, KVM_SET_MP_STATE, &mp));
	mp.mp_state = KVM_MP_STATE_SIPI_RECEIVED;
	FAILS(EINVAL, ioctl(v->vcpu, KVM_SET_MP_STATE, &mp));
	FAILS(ENOTTY, ioctl(v->vcpu, KVM_GET_LAPIC, &e));
}

void test_state(void)
{
	struct vm v;

	vm_make(&v);
	registers(&v);
	msrs(&v);
	lists(&v);
	events(&v);
	vm_drop(&v);
}
