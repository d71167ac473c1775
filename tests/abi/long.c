/* SPDX-License-Identifier: GPL-2.0 */
/* Long mode: what its state looks like from outside, what no CPU can be in, and a few instructions in it. */
#define _GNU_SOURCE
#include "abi.h"

#define BAD 0x800000000000ULL
#define HIGH 0xffffffff81000000ULL
#define CR0_PG 0x80000000ULL
#define CR4_PAE 0x20ULL
#define EFER_LME 0x100ULL
#define EFER_LMA 0x400ULL
#define EFER_NXE 0x800ULL

static const struct { unsigned leaf, reg, bit; int there; } features[] = {
	{ 1, 3, 6, 1 }, { 1, 3, 13, 1 }, { 1, 2, 26, 1 }, { 1, 2, 28, 1 }, { 1, 2, 27, 0 }, { 1, 2, 17, 0 }, { 7, 1, 7, 0 }, { 7, 1, 20, 0 }, { 7, 2, 3, 0 }, { 7, 2, 16, 0 },
	{ 0x80000001, 3, 11, 1 }, { 0x80000001, 3, 20, 1 }, { 0x80000001, 3, 26, 1 }, { 0x80000001, 3, 29, 1 }, { 0x80000001, 3, 27, 1 },
};

static uint32_t *regs_of(struct kvm_cpuid_entry2 *e, unsigned n, unsigned leaf)
{
	for (unsigned i = 0; i < n; i++)
		if (e[i].function == leaf)
			return &e[i].eax;
	return NULL;
}

/* The vCPU gets all that is supported. */
static void cpuid(struct vm *v)
{
	struct { struct kvm_cpuid2 head; struct kvm_cpuid_entry2 e[256]; } c = { .head.nent = 256 };
	uint32_t *r;

	IS(0, ioctl(v->dev, KVM_GET_SUPPORTED_CPUID, &c));
	for (unsigned i = 0; i < sizeof(features) / sizeof(*features); i++) {
		r = regs_of(c.e, c.head.nent, features[i].leaf);
		IS(features[i].there, r ? r[features[i].reg] >> features[i].bit & 1 : 0);
	}
	r = regs_of(c.e, c.head.nent, 0x80000008);
	TRUE(r && (r[0] & 0xff) >= 36 && (r[0] & 0xff) <= 40 && (r[0] >> 8 & 0xff) == 48);
	IS(0, ioctl(v->vcpu, KVM_SET_CPUID2, &c));
}

static void enter(struct kvm_sregs *s)
{
	s->cr0 |= CR0_PG | 1;
	s->cr4 = CR4_PAE;
	s->cr3 = 0x10000;
	s->efer = EFER_LME | EFER_LMA | EFER_NXE;
	s->cs.l = 1;
	s->cs.db = 0;
}

/* Page tables: the first 2 MiB at address 0 and at HIGH. */
static void tables(struct vm *v)
{
	uint64_t *level4 = (void *)(v->mem + 0x10000), *level3 = level4 + 512, *level2 = level3 + 512;

	level4[0] = level4[511] = 0x11003;
	level3[0] = level3[510] = 0x12003;
	level2[0] = level2[8] = 0x83;
}

static void refused(struct vm *v, const struct kvm_sregs *good)
{
	struct kvm_sregs s;

#define NOT(change) do { s = *good; change; FAILS(EINVAL, ioctl(v->vcpu, KVM_SET_SREGS, &s)); } while (0)
	NOT(s.efer &= ~EFER_LMA);
	NOT(s.efer &= ~EFER_LME);
	NOT(s.cr4 &= ~CR4_PAE);
	NOT(s.cr0 &= ~CR0_PG);
	NOT(s.efer |= 2);
	NOT(s.cs.db = 1);
	NOT(s.cr3 |= 1ULL << 52);
	NOT(s.cr4 |= 1 << 12);
	NOT(s.cr4 |= 1 << 17);
	NOT(s.fs.base = BAD);
	NOT(s.gs.base = BAD);
	NOT(s.gdt.base = BAD);
	NOT(s.idt.base = BAD);
	NOT(s.tr.base = BAD);
	NOT(s.cr8 = 16);
#undef NOT
}

static void state(struct vm *v)
{
	struct kvm_sregs s, back;
	struct kvm_regs r, r2;

	IS(0, ioctl(v->vcpu, KVM_GET_SREGS, &s));
	s.cs.l = 1;
	s.cs.db = 0;
	FAILS(EINVAL, ioctl(v->vcpu, KVM_SET_SREGS, &s));
	enter(&s);
	s.fs.base = 0x123456789000;
	s.gs.base = 0xffff888000001000;
	s.gdt.base = HIGH + 0x500;
	s.idt.base = HIGH + 0x600;
	IS(0, ioctl(v->vcpu, KVM_SET_SREGS, &s));
	IS(0, ioctl(v->vcpu, KVM_GET_SREGS, &back));
	IS(0, memcmp(&s, &back, sizeof(s)));
	refused(v, &s);
	/* Compatibility mode. */
	s.cs.l = 0;
	s.cs.db = 1;
	IS(0, ioctl(v->vcpu, KVM_SET_SREGS, &s));
	s.cs.l = 1;
	s.cs.db = 0;
	IS(0, ioctl(v->vcpu, KVM_SET_SREGS, &s));
	for (unsigned i = 0; i < sizeof(r) / 8; i++)
		((uint64_t *)&r)[i] = 0xffff000000001000 + i;
	r.rflags = 0x246;
	r.rip = HIGH + 0x1000;
	IS(0, ioctl(v->vcpu, KVM_SET_REGS, &r));
	IS(0, ioctl(v->vcpu, KVM_GET_REGS, &r2));
	IS(0, memcmp(&r, &r2, sizeof(r)));
}

static int msr(struct vm *v, unsigned long request, uint32_t index, uint64_t *data)
{
	struct { struct kvm_msrs head; struct kvm_msr_entry e; } m = { .head.nmsrs = 1, .e = { .index = index, .data = *data } };
	int done = ioctl(v->vcpu, request, &m);

	*data = m.e.data;
	return done;
}

static void msrs(struct vm *v)
{
	/* STAR, LSTAR, CSTAR, SFMASK, bases of FS, GS and the kernel's GS, SYSENTER_ESP and _EIP, TSC_AUX. */
	static const uint32_t all[] = {
		0xc0000081, 0xc0000082, 0xc0000083, 0xc0000084, 0xc0000100, 0xc0000101, 0xc0000102, 0x175, 0x176, 0xc0000103,
	};
	static const uint32_t addresses[] = { 0xc0000082, 0xc0000083, 0xc0000100, 0xc0000101, 0xc0000102 };
	struct { struct kvm_msr_list head; uint32_t i[512]; } list = { .head.nmsrs = 512 };
	struct kvm_sregs s;
	uint64_t data;

	IS(0, ioctl(v->dev, KVM_GET_MSR_INDEX_LIST, &list));
	for (unsigned i = 0; i < list.head.nmsrs; i++) {
		data = 0;
		IS(1, msr(v, KVM_GET_MSRS, list.i[i], &data));
		IS(1, msr(v, KVM_SET_MSRS, list.i[i], &data));
	}
	for (unsigned i = 0; i < sizeof(all) / 4; i++) {
		data = all[i] == 0xc0000084 || all[i] == 0xc0000103 ? 0x12340 : 0xffff888000001000 + i;
		uint64_t was = data;

		IS(1, msr(v, KVM_SET_MSRS, all[i], &data));
		data = 0;
		IS(1, msr(v, KVM_GET_MSRS, all[i], &data));
		IS((long long)was, data);
	}
	for (unsigned i = 0; i < sizeof(addresses) / 4; i++) {
		data = BAD;
		IS(0, msr(v, KVM_SET_MSRS, addresses[i], &data));
	}
	data = 2;
	IS(0, msr(v, KVM_SET_MSRS, 0x277, &data));
	/* The bases are those of the segments. */
	IS(0, ioctl(v->vcpu, KVM_GET_SREGS, &s));
	IS((long long)0xffff888000001004, s.fs.base);
	IS((long long)0xffff888000001005, s.gs.base);
	/* LMA is not the writer's, and LME stays while paging is on. */
	data = EFER_LME | EFER_NXE | 1;
	IS(1, msr(v, KVM_SET_MSRS, 0xc0000080, &data));
	data = 0;
	IS(1, msr(v, KVM_GET_MSRS, 0xc0000080, &data));
	IS(EFER_LME | EFER_LMA | EFER_NXE | 1, data);
	data = EFER_LMA;
	IS(0, msr(v, KVM_SET_MSRS, 0xc0000080, &data));
	data = 1ULL << 20;
	IS(0, msr(v, KVM_SET_MSRS, 0xc0000080, &data));
}

/* mov rax, [rip + 5]; mov gs:[rbx], rax; hlt; the data. */
static void run(struct vm *v)
{
	static const unsigned char code[] = {
		0x48, 0x8b, 0x05, 5, 0, 0, 0, 0x65, 0x48, 0x89, 0x03, 0xf4, 1, 2, 3, 4, 5, 6, 7, 8,
	};
	struct kvm_regs r = { .rip = HIGH + 0x1000, .rflags = 2, .rsp = HIGH + 0x8000, .rbx = 8 };
	struct kvm_sregs s;

	tables(v);
	vm_code(v, 0x1000, code, sizeof(code));
	IS(0, ioctl(v->vcpu, KVM_GET_SREGS, &s));
	s.fs.base = 0;
	s.gs.base = HIGH + 0x3000;
	IS(0, ioctl(v->vcpu, KVM_SET_SREGS, &s));
	IS(0, ioctl(v->vcpu, KVM_SET_REGS, &r));
	IS(0, ioctl(v->vcpu, KVM_RUN, 0));
	IS(KVM_EXIT_HLT, v->run->exit_reason);
	IS(0, ioctl(v->vcpu, KVM_GET_REGS, &r));
	IS((long long)(HIGH + 0x100c), r.rip);
	IS(0x0807060504030201, r.rax);
	IS(0x0807060504030201, *(uint64_t *)(v->mem + 0x3008));
	/* And back out of long mode. */
	s.cr0 &= ~CR0_PG;
	s.cr4 = 0;
	s.efer = 0;
	s.cs.l = 0;
	s.cs.db = 1;
	s.fs.base = s.gs.base = 0;
	s.gdt.base = 0x500;
	IS(0, ioctl(v->vcpu, KVM_SET_SREGS, &s));
	static const unsigned char halt[] = { 0x40, 0xf4 };
	vm_code(v, 0x1000, halt, sizeof(halt));
	r = (struct kvm_regs){ .rip = 0x1000, .rflags = 2, .rsp = 0x8000 };
	IS(0, ioctl(v->vcpu, KVM_SET_REGS, &r));
	IS(0, ioctl(v->vcpu, KVM_RUN, 0));
	IS(KVM_EXIT_HLT, v->run->exit_reason);
	IS(0, ioctl(v->vcpu, KVM_GET_REGS, &r));
	IS(1, r.rax);
}

void test_long(void)
{
	struct vm v;

	vm_make(&v);
	cpuid(&v);
	state(&v);
	msrs(&v);
	run(&v);
	vm_drop(&v);
}
