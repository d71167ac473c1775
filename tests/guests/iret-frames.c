/* One IRET in a loop with every kind of frame of its own ring, and with frames that fault: nothing of the one is left in the other
 * (SDM 2, IRET). */
#include "lib/rt.h"

enum { ROUNDS = 12, GAP = 0x40001000, OTHER = SEL_FREE };

/* The frame comes in EAX (flags), EDX (CS) and ECX (EIP). What it leads to stores flags and CS and goes back by a far return. */
CODE(hot, "push %eax; push %edx; push %ecx; mov $0x51515151, %esi; hot_iret: iret");
CODE(arrive, "pushf; pop seen_flags; push $2; popf; mov %cs, %eax; mov %eax, seen_cs; push $8; push $1f; lret; 1: nop");
/* From the other segment's code, back to it. */
CODE(from_other, "push %ecx; push %eax; ljmp $0x38, $1f; 1: pop %eax; pop %ecx; jmp hot");
/* The same, after its descriptor has lost its present bit. */
CODE(absent, "push %ecx; push %eax; ljmp $0x38, $1f; 1: pop %eax; pop %ecx; andb $0x7f, gdt+61; push %eax; push %edx; push %ecx;"
	     "mov $0x51515151, %esi; absent_iret: iret");
/* An IRET that returns to itself first. */
CODE(itself, "push %eax; push %edx; push %ecx; push %eax; push %edx; push $1f; mov $0x51515151, %esi; 1: iret");
CODE(nt, "pushf; orl $0x4000, (%esp); popf; jmp hot");
CODE(plain, "mov $0x1234, %edx; iret");

u32 seen_flags, seen_cs;
static u32 steps, fault_eip, fault_cr2, fault_error, fault_esp, fault_flags;
extern char hot_iret[], absent_iret[], fault_return[];

static void step(struct frame *f)
{
	steps++;
	f->eflags &= ~F_TF;
}

/* Runs `plain` with ESP moved; the fault handler goes back to the right stack. */
extern void with_esp(u32 esp);
asm("with_esp: push %ebp; push %ebx; push %esi; push %edi; mov %esp, with_esp_save; mov 20(%esp), %esp; mov $0xa0a0a0a0, %eax;"
    "stc; jmp plain\n"
    "fault_return: mov with_esp_save, %esp; pop %edi; pop %esi; pop %ebx; pop %ebp; ret\n.lcomm with_esp_save, 4");

static void pf(struct frame *f)
{
	fault_eip = f->eip;
	fault_cr2 = read_cr2();
	fault_error = f->error;
	fault_esp = frame_esp(f);
	fault_flags = f->eflags;
	if (f->eax != 0xa0a0a0a0 || f->edx != 0x1234)
		say("eax %08x edx %08x\n", f->eax, f->edx);
	f->eip = (u32)fault_return;
	f->eflags = 2;
}

static void fault(const char *name, u32 esp, int round)
{
	with_esp(esp);
	if (round == 0 || round == ROUNDS - 1)
		say("%s: at %s error %x cr2 %08x esp +%d cf %u if %u\n", name,
		    fault_eip == (u32)plain + 5 ? "the iret" : fault_eip == GAP ? "its target" : "?", fault_error, fault_cr2,
		    fault_esp - esp, fault_flags & 1, fault_flags >> 9 & 1);
}

static void show(const char *name, const char *code, u32 flags, u32 cs, const char *to, int round)
{
	struct try t;

	fresh(&t);
	t.r.eax = flags;
	t.r.edx = cs;
	t.r.ecx = (u32)to;
	t.code = code;
	seen_flags = seen_cs = steps = 0;
	gdt[OTHER / 8] |= (u64)ACC_P << 40;
	try0(&t, code);
	if (round != 0 && round != ROUNDS - 1)
		return;
	say("%s %08x: ", name, flags);
	if (t.vector == (u32)-1)
		say("flags %08x cs %04x esi %08x steps %u\n", seen_flags, seen_cs, t.r.esi, steps);
	else
		say("%s error %04x at %s\n", vector_name(t.vector), t.error,
		    t.eip == (u32)hot_iret || t.eip == (u32)absent_iret ? "the iret" : "?");
}

int main(void)
{
	static const u32 flags[] = {
		2, F_IF, F_IOPL, F_NT, F_AC, F_DF, F_ID, F_RF, F_TF, F_ARITH, F_ARITH | F_ID | F_DF | F_IF, F_RF | F_AC | F_IOPL, 0xffc0802a,
	};
	u32 *pd = identity_map(16, PG_P | PG_W), *below = page();

	pic_init();
	*pte(pd, GAP - 4096) = (u32)below | PG_P | PG_W;
	paging_on(pd, CR0_WP);
	on(1, step);
	gdt[OTHER / 8] = gdt[1];
	tss->prev = 0;
	for (int round = 0; round < ROUNDS; round++) {
		for (u32 i = 0; i < sizeof flags / sizeof *flags; i++)
			show("own", hot, flags[i], SEL_KCODE, arrive, round);
		show("own, high half", hot, F_IF | 2, 0xabcd0000 | SEL_KCODE, arrive, round);
		show("other", hot, F_IF | 2, OTHER, arrive, round);
		show("other to own", from_other, F_CF | 2, SEL_KCODE, arrive, round);
		show("other to other", from_other, F_DF | 2, OTHER, arrive, round);
		show("other, absent", absent, 2, OTHER, arrive, round);
		show("null", hot, 2, 0, arrive, round);
		show("data", hot, 2, SEL_KDATA, arrive, round);
		show("to itself", itself, F_IF | 2, SEL_KCODE, arrive, round);
		show("nt", nt, F_IF | 2, SEL_KCODE, arrive, round);
	}
	on(14, pf);
	for (int round = 0; round < ROUNDS; round++) {
		fault("no frame", GAP, round);
		below[1021] = GAP; /* each fault pushes its own frame where this one was */
		below[1022] = SEL_KCODE;
		below[1023] = F_IF | 2;
		fault("to an absent page", GAP - 12, round);
		below[1023] = SEL_KCODE;
		fault("eip only", GAP - 4, round);
		fault("no flags", GAP - 8, round);
		fault("half of cs", GAP - 6, round);
		fault("half of eip", GAP - 2, round);
	}
	return 0;
}
