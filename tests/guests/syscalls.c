/* 4,000 system calls by INT 0x80 and SYSENTER each, with page faults and interrupts between: counts and registers agree. */
#include "lib/rt.h"

static volatile u32 ticks;
static u32 calls, faults, *pd;
extern char boot_stack[], fast_entry[];
static void tick(struct frame *f) { (void)f; ticks++; pic_eoi(0); }
static void call(struct frame *f) { calls++; f->eax = f->ebx + f->ecx; }
static void touch(struct frame *f)
{
	u32 a = read_cr2();

	(void)f;
	faults++;
	*pte(pd, a) ^= PG_P;
}

u32 fast_calls;
asm(".text\nfast_entry: incl fast_calls; lea (%ebx,%ebp), %eax; sti; sysexit");
CODE(slow, "xor %esi, %esi; mov $4000, %edi; 1: mov %edi, %ebx; mov $7, %ecx; int $0x80; sub $7, %eax; sub %edi, %eax; or %eax, %esi; dec %edi; jnz 1b");
CODE(fast, "xor %esi, %esi; mov $4000, %edi; 1: mov %edi, %ebx; mov $9, %ebp; mov $2f, %edx; mov %esp, %ecx; sysenter; 2: sub $9, %eax; sub %edi, %eax; or %eax, %esi; dec %edi; jnz 1b");
CODE(pages, "mov $1000, %edi; 1: mov $0x40000000, %ebx; mov %edi, %eax; and $7, %eax; shl $12, %eax; add %eax, %ebx; incl (%ebx); int $0x81; dec %edi; jnz 1b");

static void unmap(struct frame *f)
{
	u32 a = f->ebx & ~0xfffu;

	*pte(pd, a) &= ~PG_P;
	invlpg(a);
}

int main(void)
{
	struct try t;
	u32 sum = 0;

	pd = identity_map(16, PG_P | PG_W | PG_U);
	for (u32 i = 0; i < 8; i++)
		*pte(pd, 0x40000000 + i * 4096) = (u32)page() | PG_W | PG_U;
	paging_on(pd, CR0_WP);
	on(IRQ_BASE, tick);
	on(0x80, call);
	on(0x81, unmap);
	on(14, touch);
	set_gate(0x80, stub(0x80), GATE_INT | GATE_DPL3);
	set_gate(0x81, stub(0x81), GATE_INT | GATE_DPL3);
	wrmsr(0x174, SEL_KCODE);
	wrmsr(0x175, (u32)boot_stack + 4096);
	wrmsr(0x176, (u32)fast_entry);
	pic_init();
	pic_unmask(0);
	pit_start(1000);
	fresh(&t);
	t.r.eflags = F_IF | 2;
	go3("int 0x80", slow, &t);
	say(" %u calls, differences %x\n", calls, t.r.esi);
	fresh(&t);
	t.r.eflags = F_IF | 2;
	go3("sysenter", fast, &t);
	say(" %u calls, differences %x\n", fast_calls, t.r.esi);
	fresh(&t);
	t.r.eflags = F_IF | 2;
	go3("page faults", pages, &t);
	pit_stop();
	for (u32 i = 0; i < 8; i++) {
		*pte(pd, 0x40000000 + i * 4096) |= PG_P;
		sum += *(u32 *)(0x40000000 + i * 4096);
	}
	say(" %u faults, sum %u\n", faults, sum);
	return 0;
}
