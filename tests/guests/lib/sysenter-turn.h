/* What sysenter-turn and pae-sysenter-turn have in common: SYSENTER of programs and SYSEXIT back, many times over (SDM 2, SYSENTER, SYSEXIT), with flags and
 * data segments of all kinds either way. SYSENTER clears IF and RF only; SYSEXIT changes no flag and no data segment, and its CS and SS are flat whatever
 * the table has there. Included once, behind start(), which turns paging on, and KEPT: whether programs are left what an IRET would take away. With it, an interrupt
 * in between would change what they see. */
#include "ticks.h"

enum { SEL_UBASED = SEL_FREE + 3, SEL_CONFORMING = SEL_FREE + 8, OTHER = SEL_FREE + 16, BARE = SEL_FREE + 64 };

/* As the entry below pushes them. */
struct call { u32 gs, fs, es, ds, edi, esi, ebp, esp, ebx, edx, ecx, eax, eflags; };
enum { WAYS = 4 };
extern char way_sti[], way_flags_sti[], way_flags[], way_closed[];
static char *const ways[WAYS] = { way_sti, way_flags_sti, way_flags, way_closed };
char enter_stack[8192] __attribute__((aligned(16)));
char *enter_way;
u32 enter_flags;
static u32 enter_cs, way;
static volatile u32 calls, sum;
void enter(void);
void entered(struct call *c);

/* DS may be anything, and is no kernel's. The ways out: as short as can be, as Linux has it, with IF from a POPF, and with IF clear. */
asm(".text\nenter: pushf; pusha; push %ds; push %es; push %fs; push %gs; mov $0x10, %eax; mov %eax, %ds; mov %eax, %es; pushl $2; popf; push %esp; call entered; add $4, %esp;"
    "pop %gs; pop %fs; pop %es; pop %ds; popa; add $4, %esp; jmp *%ss:enter_way;"
    "way_sti: nop; nop; nop; sti; sysexit;"
    "way_flags_sti: push %eax; pushl %ss:enter_flags; popf; pop %eax; sti; sysexit;"
    "way_flags: pushl %ss:enter_flags; popf; nop; nop; nop; nop; sysexit;"
    "way_closed: nop; nop; nop; nop; nop; sysexit");

/* EBX counts down, EDI what is not as it should be, ESI sums up segments and flags. */
CODE(loop3,
     "xor %edi, %edi; xor %esi, %esi; 1: mov $0x203, %eax; test $1, %ebx; jz 2f; or $0x400, %eax; 2: test $2, %ebx; jz 2f; or $0x200000, %eax; 2:"
     "mov %ebx, %edx; and $0x2f, %edx; cmp $0x2b, %edx; jne 2f; or $0x4000, %eax; 2: cmp $0x2d, %edx; jne 2f; or $0x40000, %eax; 2: push %eax; popf;"
     "mov %esp, %ebp; mov %esp, %ecx; mov $3f, %edx; mov %ebx, %eax; stc; sysenter; ud2; 3: jc 4f; inc %edi; 4: cmp %esp, %ebp; je 4f; inc %edi; 4:"
     "lea -1(%eax), %ecx; cmp %ecx, %ebx; je 4f; inc %edi; 4: pushf; pop %eax; and $~0x10, %eax; rol $7, %esi; xor %eax, %esi; mov %cs, %eax; add %eax, %esi;"
     "mov %ss, %eax; xor %eax, %esi; mov %ds, %eax; rol $5, %esi; xor %eax, %esi; mov %es, %eax; rol $5, %esi; xor %eax, %esi; mov %fs, %eax; rol $5, %esi;"
     "xor %eax, %esi; mov %gs, %eax; rol $5, %esi; xor %eax, %esi; push $0x203; popf; dec %ebx; jnz 1b");
/* Nothing but calls; the address behind ends on the next page, and has a prefix every other time. */
CODE(plain, "xor %edi, %edi; xor %esi, %esi; 1: mov %esp, %ebp; mov %esp, %ecx; mov $2f, %edx; mov %ebx, %eax; sysenter; ud2; 2: cmp %esp, %ebp; je 3f; inc %edi;"
	    "3: mov %esp, %ecx; mov $4f, %edx; .byte 0x2e, 0x0f, 0x34; ud2; 4: sub $2, %eax; cmp %eax, %ebx; je 5f; inc %edi; 5: dec %ebx; jnz 1b");

static void mix(u32 v)
{
	sum = (sum << 7 | sum >> 25) ^ v;
}

void entered(struct call *c)
{
	u32 cs, ss, n = calls++;

	asm volatile("mov %%cs, %0; mov %%ss, %1" : "=r"(cs), "=r"(ss));
	if ((cs & 0xffff) != enter_cs || (ss & 0xffff) != enter_cs + 8 || (u32)(c + 1) != (u32)enter_stack + sizeof enter_stack - 12 || (c->eflags & (F_IF | F_TF)))
		bad++;
	mix(c->eflags & ~(u32)F_AF), mix(c->ds & 0xffff), mix(c->es & 0xffff), mix(c->fs & 0xffff), mix(c->gs & 0xffff);
	c->eax++;
	c->ds = c->es = c->fs = c->gs = SEL_UDATA;
	enter_flags = n % 3 ? 2 : F_OF | F_SF | F_DF | F_ID | 2;
	switch (way >= WAYS ? n % 32 : 0) {
	case 3: c->ds = SEL_UBASED, c->gs = 0; break;
	case 6: c->es = KEPT ? 3 : 0; break;
	case 9: c->fs = KEPT ? SEL_KDATA : 0; break;
	case 12: c->gs = SEL_UDATA & ~3; break;
	case 15: c->fs = SEL_CONFORMING | 3; break;
	case 18: c->es = KEPT ? SEL_KDATA : SEL_UDATA, c->gs = SEL_CONFORMING; break;
	case 21: enter_flags |= F_IOPL; break;
	case 24: enter_flags |= F_NT; break;
	case 27: enter_flags |= F_AC; break;
	}
	enter_way = ways[way < WAYS ? way : n % 13 == 5 ? 3 : n % WAYS];
	if (enter_way == way_flags)
		enter_flags |= F_IF;
}

static void run(const char *name, const char *code, u32 w, u32 rounds)
{
	struct try t;

	calls = sum = 0;
	way = w;
	fresh(&t);
	t.r.eflags = F_IF | 2;
	t.r.ebx = rounds;
	go3(name, code, &t);
	say(" calls %u sum %x differences %x seen %x\n", calls, sum, t.r.edi, t.r.esi);
}

int main(void)
{
	gdt[SEL_UBASED / 8] = descriptor(0x1000, 0xfffff, ACC_P | ACC_DPL3 | ACC_S | ACC_DATA | ACC_A, FLAG_G | FLAG_D);
	gdt[SEL_CONFORMING / 8] = descriptor(0, 0xfffff, 0x9f, FLAG_G | FLAG_D);
	for (int i = 0; i < 4; i++)
		gdt[OTHER / 8 + i] = gdt[SEL_KCODE / 8 + i];
	/* The kernel's two, and nothing for programs. */
	gdt[BARE / 8] = gdt[SEL_KCODE / 8];
	gdt[BARE / 8 + 1] = gdt[SEL_KDATA / 8];
	on(IRQ_BASE, tick);
	on(2, nmi);
	pic_init();
	start();
	wrmsr(0x175, (u32)enter_stack + sizeof enter_stack - 12);
	wrmsr(0x176, (u32)enter);
	for (int i = 0; i < 2; i++) {
		/* Its RPL does not count. */
		wrmsr(0x174, i ? OTHER + 1 : SEL_KCODE);
		enter_cs = i ? OTHER : SEL_KCODE;
		run("sti", plain, 0, 200);
		run("flags, sti", plain, 1, 200);
		run("flags", plain, 2, 200);
		run("closed", plain, 3, 20);
		run("all kinds", loop3, WAYS, 600);
	}
	if (KEPT) {
		wrmsr(0x174, BARE);
		enter_cs = BARE;
		run("bare", plain, 3, 20);
	}
	check("kernel as SYSENTER leaves it", bad == 0);
	return 0;
}
