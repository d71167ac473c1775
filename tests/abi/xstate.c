/* SPDX-License-Identifier: GPL-2.0 */
/* The extended state from outside: leaf D, KVM_GET/SET_XSAVE and XCRS, and that a guest has its own XCR0 and IA32_TSC_AUX while the client keeps
 * its own. For hosts with AVX and RDTSCP, as the lab is. */
#define _GNU_SOURCE
#include "abi.h"
#include <sched.h>

enum { CR4_OSXSAVE = 1 << 18, CR4_OSFXSR = 1 << 9, PKRU = 1 << 9 };

_Static_assert(sizeof(struct kvm_xsave) == 4096 && sizeof(struct kvm_xcrs) == 392, "extended state");

static struct kvm_cpuid_entry2 *leaf(struct kvm_cpuid2 *c, unsigned function, unsigned index)
{
	for (unsigned i = 0; i < c->nent; i++)
		if (c->entries[i].function == function && c->entries[i].index == index)
			return &c->entries[i];
	return NULL;
}

static void cpuid(struct vm *v)
{
	struct { struct kvm_cpuid2 head; struct kvm_cpuid_entry2 e[256]; } c = { .head.nent = 256 };
	struct kvm_cpuid_entry2 *e;

	IS(0, ioctl(v->dev, KVM_GET_SUPPORTED_CPUID, &c));
	e = leaf(&c.head, 0xd, 0);
	TRUE(e != NULL);
	if (!e)
		return;
	IS(7, e->eax);
	IS(0, e->edx);
	IS(832, e->ecx);
	IS(KVM_CPUID_FLAG_SIGNIFCANT_INDEX, e->flags);
	e = leaf(&c.head, 0xd, 1);
	TRUE(e && (e->eax & ~6u) == 0 && e->ecx == 0);
	e = leaf(&c.head, 0xd, 2);
	TRUE(e && e->eax == 256 && e->ebx == 576);
	TRUE(!leaf(&c.head, 0xd, 9));
	IS(0, ioctl(v->vcpu, KVM_SET_CPUID2, &c));
}

static int xcr0(struct vm *v, uint64_t value)
{
	struct kvm_xcrs x = { .nr_xcrs = 1, .xcrs[0].value = value };

	return ioctl(v->vcpu, KVM_SET_XCRS, &x);
}

static void xcrs(struct vm *v)
{
	static const uint64_t good[] = { 1, 3, 7 }, bad[] = { 0, 2, 5, 6, 7 | PKRU, 0xe7, 0x1f, 1ull << 63 | 7 };
	struct kvm_xcrs x;

	for (unsigned i = 0; i < sizeof(good) / 8; i++) {
		IS(0, xcr0(v, good[i]));
		IS(0, ioctl(v->vcpu, KVM_GET_XCRS, &x));
		IS(1, x.nr_xcrs);
		IS(0, x.xcrs[0].xcr);
		IS((long long)good[i], x.xcrs[0].value);
	}
	for (unsigned i = 0; i < sizeof(bad) / 8; i++)
		FAILS(EINVAL, xcr0(v, bad[i]));
	x.nr_xcrs = 17;
	FAILS(EINVAL, ioctl(v->vcpu, KVM_SET_XCRS, &x));
	x.nr_xcrs = 1;
	x.flags = 1;
	FAILS(EINVAL, ioctl(v->vcpu, KVM_SET_XCRS, &x));
	FAILS(EFAULT, ioctl(v->vcpu, KVM_SET_XCRS, (void *)8));
	FAILS(EFAULT, ioctl(v->vcpu, KVM_GET_XCRS, (void *)8));
}

static void images(struct vm *v)
{
	static struct kvm_xsave x, back;
	struct kvm_fpu f;
	uint64_t *present = (uint64_t *)&x.region[128];

	IS(0, ioctl(v->vcpu, KVM_GET_XSAVE, &x));
	IS(0x37f, x.region[0] & 0xffff);
	IS(0x1f80, x.region[6]);
	*present = 7;
	for (unsigned i = 160 / 4; i < 416 / 4; i++)
		x.region[i] = 0x1000 + i;
	for (unsigned i = 576 / 4; i < 832 / 4; i++)
		x.region[i] = 0x2000 + i;
	IS(0, ioctl(v->vcpu, KVM_SET_XSAVE, &x));
	IS(0, ioctl(v->vcpu, KVM_GET_XSAVE, &back));
	IS(0, memcmp(&x, &back, sizeof(x)));
	IS(0, ioctl(v->vcpu, KVM_GET_FPU, &f));
	IS(0x1000 + 160 / 4, *(uint32_t *)f.xmm[0]);
	f.xmm[0][0] = 0x77;
	IS(0, ioctl(v->vcpu, KVM_SET_FPU, &f));
	IS(0, ioctl(v->vcpu, KVM_GET_XSAVE, &back));
	IS(0x77, back.region[160 / 4] & 0xff);
	IS(0x2000 + 576 / 4, back.region[576 / 4]);
	/* What XSTATE_BV leaves out is in its initial state, whatever the bytes say. */
	*present = 2;
	IS(0, ioctl(v->vcpu, KVM_SET_XSAVE, &x));
	IS(0, ioctl(v->vcpu, KVM_GET_XSAVE, &back));
	IS(0x1000 + 160 / 4, back.region[160 / 4]);
	IS(0, back.region[576 / 4]);
	IS(0x37f, back.region[0] & 0xffff);
	for (unsigned bit = 3; bit < 64; bit++) {
		*present = 1ull << bit;
		FAILS(EINVAL, ioctl(v->vcpu, KVM_SET_XSAVE, &x));
	}
	*present = 7;
	for (unsigned i = 520 / 4; i < 576 / 4; i++) {
		x.region[i] = 1;
		FAILS(EINVAL, ioctl(v->vcpu, KVM_SET_XSAVE, &x));
		x.region[i] = 0;
	}
	x.region[6] = 0x10000;
	FAILS(EINVAL, ioctl(v->vcpu, KVM_SET_XSAVE, &x));
	x.region[6] = 0x1f80;
	FAILS(EFAULT, ioctl(v->vcpu, KVM_SET_XSAVE, (void *)8));
	FAILS(EFAULT, ioctl(v->vcpu, KVM_GET_XSAVE, (void *)8));
	IS(0, ioctl(v->vcpu, KVM_SET_XSAVE, &x));
}

static uint64_t own_xcr0(void)
{
	uint32_t low, high;

	asm volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
	return low | (uint64_t)high << 32;
}

static uint32_t own_tsc_aux(void)
{
	uint32_t aux;

	asm volatile("rdtscp" : "=c"(aux) : : "eax", "edx");
	return aux;
}

/* A program of the guest's reads its XCR0 and TSC_AUX and changes an upper half; this one has its own before and after, and its registers. */
static void program(struct vm *v)
{
	static const unsigned char code[] = {
		0x31, 0xc9,                                     /* xor ecx, ecx */
		0x0f, 0x01, 0xd0, 0x89, 0xc3,                   /* xgetbv; mov ebx, eax */
		0x0f, 0x01, 0xf9, 0x89, 0xce,                   /* rdtscp; mov esi, ecx */
		0xf3, 0x0f, 0xc7, 0xff,                         /* rdpid edi */
		0xc5, 0xf5, 0xfe, 0xc9,                         /* vpaddd ymm1, ymm1, ymm1 */
		0xa3, 0, 0, 0x90, 0,                            /* mov [0x900000], eax */
	};
	static const uint64_t gdt[] = { 0, 0x00cffb000000ffff, 0x00cff3000000ffff };
	struct { struct kvm_msrs head; struct kvm_msr_entry e; } m = { .head.nmsrs = 1, .e = { .index = 0xc0000103, .data = 0xabcd } };
	struct kvm_regs r = { .rip = 0x1000, .rflags = 0x202, .rsp = 0x8000 };
	uint32_t mine[8] = { 1, 2, 3, 4, 5, 6, 7, 8 }, now_[8];
	static struct kvm_xsave x;
	struct kvm_sregs s;
	cpu_set_t set, all;

	sched_getaffinity(0, sizeof(all), &all);
	CPU_ZERO(&set);
	CPU_SET(1, &set);
	sched_setaffinity(0, sizeof(set), &set);
	vm_code(v, 0x1000, code, sizeof(code));
	/* Another table: one that is in use changes by the guest's own writes, or announced ones. */
	memcpy(v->mem + 0x600, gdt, sizeof(gdt));
	IS(0, ioctl(v->vcpu, KVM_GET_SREGS, &s));
	s.gdt.base = 0x600;
	s.cs.selector = 0xb;
	s.ds.selector = s.es.selector = s.fs.selector = s.gs.selector = s.ss.selector = 0x13;
	s.cs.dpl = s.ds.dpl = s.es.dpl = s.fs.dpl = s.gs.dpl = s.ss.dpl = 3;
	s.cr4 |= CR4_OSXSAVE | CR4_OSFXSR;
	IS(0, ioctl(v->vcpu, KVM_SET_SREGS, &s));
	IS(0, ioctl(v->vcpu, KVM_SET_REGS, &r));
	IS(1, ioctl(v->vcpu, KVM_SET_MSRS, &m));
	IS(0, xcr0(v, 7));
	uint64_t host = own_xcr0();
	uint32_t aux = own_tsc_aux();
	asm volatile("vmovdqu %0, %%ymm1" : : "m"(mine));
	long result = ioctl(v->vcpu, KVM_RUN, 0);
	asm volatile("vmovdqu %%ymm1, %0" : "=m"(now_));
	IS((long long)host, own_xcr0());
	IS(aux, own_tsc_aux());
	sched_setaffinity(0, sizeof(all), &all);
	IS(0, result);
	IS(0, memcmp(mine, now_, sizeof(mine)));
	IS(KVM_EXIT_MMIO, v->run->exit_reason);
	IS(0, ioctl(v->vcpu, KVM_GET_REGS, &r));
	IS(7, r.rbx);
	IS(0xabcd, r.rsi);
	IS(0xabcd, r.rdi);
	IS(0, ioctl(v->vcpu, KVM_GET_XSAVE, &x));
	IS(2 * (0x1000 + 176 / 4), x.region[176 / 4]);
	IS(2 * (0x2000 + 592 / 4), x.region[592 / 4]);
}

void test_xstate(void)
{
	struct vm v;

	vm_make(&v);
	/* Nothing is announced yet. */
	IS(0, xcr0(&v, 1));
	FAILS(EINVAL, xcr0(&v, 3));
	cpuid(&v);
	xcrs(&v);
	images(&v);
	program(&v);
	vm_drop(&v);
}
