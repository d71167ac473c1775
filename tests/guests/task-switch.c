/* Task switches: far CALL and JMP to a TSS and to a task gate, IRET with NT, events through task gates; busy bits, links, NT, TS, the trap
 * bit, the faults of each stage and the task they come in; 16-bit TSSs (SDM 3, chapter 7). */
#include "lib/attempt.h"

enum { TSS2 = 0x38, TASK_GATE = 0x40, TSS16 = 0x48, FREE = 0x50, SHORT = 0x58, LDT2 = 0x60, STACK16 = 0x68, HANDLERS = 0x80 };
struct tss16 { u16 prev, sp0, ss0, sp1, ss1, sp2, ss2, ip, flags, regs[8], segs[4], ldt; };

static struct tss t2 __attribute__((aligned(256)));
static struct tss16 t16 __attribute__((aligned(256)));
static char stack2[4096] __attribute__((aligned(4096))), stack20[4096];

/* The other task: counts, notes what it finds, and returns; then once more from there. The entry with an error code pops that. */
extern char other[], other_code[], other_jumps[], other_end[];
extern u32 seen[8];
asm(".text\n"
    "other_code: popl seen+20\n movl $1, old_skip\n mov tss_now, %ebx\n mov skip_by, %ecx\n add %ecx, 0x20(%ebx)\n"
    "other: incl seen\n pushfl\n popl seen+4\n xor %eax, %eax\n str %ax\n mov %eax, seen+8\n mov %cr0, %eax\n and $8, %eax\n mov %eax, seen+12\n"
    "mov %esp, seen+16\n clts\n iret\n jmp other\n"
    "other_jumps: incl seen\n clts\n ljmp $0x28, $0\n jmp other_jumps\n"
    "other_end:\n"
    ".data\n.balign 4\n.globl seen, tss_now, skip_by\nseen: .skip 32\nold_skip: .long 0\ntss_now: .long 0\nskip_by: .long 0\n.text\n");
extern u32 tss_now, skip_by;

static void fresh2(const void *entry)
{
	memset(&t2, 0, sizeof t2);
	t2.eip = (u32)entry;
	t2.eflags = 2;
	t2.regs[4] = (u32)stack2 + sizeof stack2;
	t2.esp0 = (u32)stack20 + sizeof stack20;
	t2.ss0 = SEL_KDATA;
	for (int i = 0; i < 6; i++)
		t2.segs[i] = i == 1 ? SEL_KCODE : SEL_KDATA;
	t2.iomap = 104;
	gdt[TSS2 / 8] = descriptor((u32)&t2, 103, 0x89, 0);
	memset(seen, 0, sizeof seen);
}

/* A 16-bit TSS has words: code below 64 KiB, and a stack there. */
static void fresh16(const void *entry)
{
	memcpy((void *)0x8000, other_code, other_end - other_code);
	memset(&t16, 0, sizeof t16);
	t16.ip = (u16)(0x8000 + ((const char *)entry - other_code));
	t16.flags = 2;
	t16.regs[0] = 0x1234;
	t16.regs[4] = 0x7000;
	for (int i = 0; i < 4; i++)
		t16.segs[i] = i == 1 ? SEL_KCODE : SEL_KDATA;
	t16.segs[2] = STACK16;
	gdt[TSS16 / 8] = descriptor((u32)&t16, 43, 0x81, 0);
	memset(seen, 0, sizeof seen);
}

static void show2(void)
{
	say(" ran %u, flags %04x, tr %04x, ts %u, esp %04x; link %04x, busy %u %u, saved flags %04x cs %04x ss %04x tr %04x\n", seen[0], seen[1] & 0x7fff, seen[2],
	    seen[3], seen[4] ? (u32)stack2 + sizeof stack2 - seen[4] : 0, t2.prev & 0xffff, is_busy(SEL_TSS), is_busy(TSS2), tss->eflags & 0x4000, tss->segs[1] & 0xffff,
	    tss->segs[2] & 0xffff, read_tr());
	say(" its own: eip +%u flags %04x\n", t2.eip - (u32)other, t2.eflags & 0x7fff);
}

static void show16(void)
{
	say(" ran %u, flags %04x, tr %04x, ts %u, sp %04x; link %04x, busy %u %u, own: ip %04x flags %04x ax %04x sp %04x cs %04x ss %04x ds %04x\n", seen[0],
	    seen[1] & 0x7fff, seen[2], seen[3], seen[4] & 0xffff, t16.prev, is_busy(SEL_TSS), is_busy(TSS16), t16.ip, t16.flags, t16.regs[0], t16.regs[4], t16.segs[1],
	    t16.segs[2], t16.segs[3]);
}

static void call_tss(void) { asm volatile("lcall $0x38, $0x12345678" : : : "memory", "cc"); }
static void jmp_tss(void) { asm volatile("ljmp $0x38, $0" : : : "memory", "cc"); }
static void call_gate(void) { asm volatile("lcall $0x40, $0" : : : "memory", "cc"); }
static void jmp_gate(void) { asm volatile("ljmp $0x40, $0" : : : "memory", "cc"); }
static void call_own(void) { asm volatile("lcall $0x28, $0" : : : "memory", "cc"); }
static void int_gate(void) { asm volatile("int $0x40" : : : "memory", "cc"); }
static void int_gate2(void) { asm volatile("int $0x40; int $0x40" : : : "memory", "cc"); }
static void call_tss16(void) { asm volatile("lcall $0x48, $0" : : : "memory", "cc"); }
static void jmp_tss16(void) { asm volatile("ljmp $0x48, $0" : : : "memory", "cc"); }
static void raise_gp(void) { asm volatile("mov $0x7fc, %%eax; mov %%eax, %%fs" : : : "eax", "memory", "cc"); }
static void iret_nt(void) { asm volatile("pushf; orl $0x4000, (%%esp); popf; iret" : : : "memory", "cc"); }

CODE(call3, "lcall $0x43, $0");
CODE(call3_tss, "lcall $0x3b, $0");
CODE(int3_gate, "int $0x40");

/* The handlers of #TS to #GP as tasks, which is what the manual asks for: of the task that faults not all segments are loaded. */
static struct tss handlers[4] __attribute__((aligned(512)));
static char handler_stack[4096];
extern char fault_task[];
asm(".text\nfault_task: popl came+4\n mov attempt_esp, %esp\n call fault_event\n");

void fault_event(void);
void fault_event(void)
{
	u32 n = (read_tr() - HANDLERS) / 8;

	came.vector = 10 + n;
	came.tr = handlers[n].prev & 0xffff;
	came.eip = t2.eip;
	came.cs = t2.segs[1] & 0xffff;
	set_busy(HANDLERS + 8 * n, 0);
	set_busy(SEL_TSS, 0);
	asm volatile("ltr %w0; clts; jmp attempt_end" : : "r"(SEL_TSS));
}

static void handlers_as_tasks(void)
{
	for (int n = 0; n < 4; n++) {
		handlers[n].eip = (u32)fault_task;
		handlers[n].eflags = 2;
		handlers[n].regs[4] = (u32)handler_stack + sizeof handler_stack;
		for (int i = 0; i < 6; i++)
			handlers[n].segs[i] = i == 1 ? SEL_KCODE : SEL_KDATA;
		handlers[n].iomap = 104;
		gdt[HANDLERS / 8 + n] = descriptor((u32)&handlers[n], 103, 0x89, 0);
		idt[10 + n] = gate(HANDLERS + 8 * n, 0, 0x85);
	}
}

static void try_new(const char *name)
{
	handlers_as_tasks();
	attempt(name, jmp_tss, other);
	say(" busy %u %u, ran %u\n", is_busy(SEL_TSS), is_busy(TSS2), seen[0]);
}

int main(void)
{
	struct try t;

	attempt_init();
	gdt[TASK_GATE / 8] = gate(TSS2, 0, 0xe5);
	gdt[FREE / 8] = 0;
	gdt[SHORT / 8] = descriptor(0, 0xfff, 0x9b, FLAG_D);
	gdt[LDT2 / 8] = descriptor((u32)ldt, 15, 0x82, 0);
	gdt[STACK16 / 8] = descriptor(0, 0xffff, 0x93, 0);
	ldt[1] = descriptor(0, 0xfffff, 0x93, FLAG_G | FLAG_D);

	fresh2(other);
	attempt("call", call_tss, other), show2();
	attempt("call again", call_tss, other), show2();
	attempt("call a gate", call_gate, other), show2();
	fresh2(other_jumps);
	attempt("jmp and back", jmp_tss, other), show2();
	attempt("jmp to a gate and back", jmp_gate, other), show2();
	fresh2(other);
	t2.eflags |= F_NT | F_CF;
	idt[0x40] = gate(TSS2, 0, 0xe5);
	attempt("int", int_gate, other), show2();
	attempt("int twice", int_gate2, other), show2();

	/* From ring 3: what the gate allows, not the TSS. */
	fresh2(other);
	fresh(&t);
	go3("call a gate from ring 3", call3, &t), show2();
	go3("int from ring 3", int3_gate, 0), show2();
	on(13, 0);
	go3("call a TSS from ring 3", call3_tss, 0);
	gdt[TASK_GATE / 8] = gate(TSS2, 0, 0x85);
	go3("call a closed gate", call3, 0);
	on(13, attempt_event);
	gdt[TASK_GATE / 8] = gate(TSS2, 0, 0xe5);

	/* The error code is on the new task's stack. */
	fresh2(other_code);
	tss_now = (u32)tss;
	skip_by = 2;
	idt[13] = gate(TSS2, 0, 0x85);
	attempt("#GP in a task of its own", raise_gp, other), show2();
	say(" error %04x\n", seen[5]);
	fresh16(other_code);
	idt[13] = gate(TSS16, 0, 0x85);
	/* It takes a doubleword for the word: what is above the code is what lay on the stack. */
	*(u16 *)0x7000 = 0x5a5a;
	attempt("#GP in a 16-bit task", raise_gp, other), show16();
	say(" error %08x\n", seen[5]);
	set_gate(13, stub(13), GATE_INT);

	fresh16(other);
	attempt("call a 16-bit TSS", call_tss16, other), show16();
	attempt("call it again", call_tss16, other), show16();
	fresh16(other_jumps);
	attempt("jmp to it and back", jmp_tss16, other), show16();

	/* The trap bit. */
	fresh2(other);
	t2.trap = 1;
	write_dr6(0);
	attempt("trap bit", call_tss, other), show2();
	fresh2(other_code);
	t2.trap = 1;
	idt[13] = gate(TSS2, 0, 0x85);
	attempt("trap bit and an error code", raise_gp, other_code);
	say(" esp -%u error %04x\n", (u32)stack2 + sizeof stack2 - came.esp, *(u32 *)(stack2 + sizeof stack2 - 4));
	set_gate(13, stub(13), GATE_INT);

	/* Faults of the old task. */
	fresh2(other);
	attempt("own TSS", call_own, other);
	set_busy(TSS2, 1);
	attempt("busy", call_tss, other);
	attempt("busy, by a gate", call_gate, other);
	attempt("busy, by an int", int_gate, other);
	fresh2(other);
	gdt[TSS2 / 8] &= ~(0x80ull << 40);
	attempt("absent", call_tss, other);
	attempt("absent, by an int", int_gate, other);
	gdt[TSS2 / 8] = descriptor((u32)&t2, 102, 0x89, 0);
	attempt("limit", call_tss, other);
	attempt("limit, by an int", int_gate, other);
	gdt[TSS16 / 8] = descriptor((u32)&t16, 42, 0x81, 0);
	attempt("limit of a 16-bit TSS", call_tss16, other);
	gdt[TASK_GATE / 8] = gate(SEL_KDATA, 0, 0xe5);
	attempt("gate to data", call_gate, other);
	gdt[TASK_GATE / 8] = gate(0, 0, 0xe5);
	attempt("gate to null", call_gate, other);
	gdt[TASK_GATE / 8] = gate(TSS2 | 4, 0, 0xe5);
	attempt("gate to the LDT", call_gate, other);
	gdt[TASK_GATE / 8] = gate(TSS2, 0, 0x65);
	attempt("absent gate", call_gate, other);
	tss->prev = SEL_KDATA;
	attempt("iret to data", iret_nt, other);
	fresh2(other);
	tss->prev = TSS2;
	attempt("iret to a TSS not busy", iret_nt, other);
	tss->prev = 0;
	attempt("iret to null", iret_nt, other);

	/* Faults of the new task. */
	fresh2(other), t2.ldt = SEL_KDATA, try_new("ldt: data");
	fresh2(other), t2.ldt = LDT2 | 4, try_new("ldt: in an ldt");
	fresh2(other), t2.segs[3] = 0xf, try_new("ds beyond no ldt");
	fresh2(other), t2.segs[3] = 0xc, t2.ldt = LDT2, attempt("ds from its ldt", call_tss, other), show2();
	fresh2(other), t2.segs[1] = FREE, try_new("cs: nothing");
	fresh2(other), t2.segs[1] = SEL_KDATA, try_new("cs: data");
	fresh2(other), t2.segs[2] = SEL_UDATA, try_new("ss of ring 3");
	fresh2(other), t2.segs[4] = SEL_KCODE, t2.segs[5] = TSS2, try_new("gs: a TSS");
	fresh2(other), t2.segs[0] = 0x1ff8, try_new("es outside the table");
	gdt[FREE / 8] = descriptor(0, 0xfffff, 0x13, FLAG_G | FLAG_D);
	fresh2(other), t2.segs[3] = FREE, try_new("ds absent");
	fresh2(other), t2.segs[1] = SHORT, try_new("eip beyond the limit");
	fresh2(other), t2.eflags = F_VM | 2, t2.ldt = SEL_KDATA, try_new("8086 task with a bad ldt");
	for (int v = 10; v < 14; v++)
		set_gate(v, stub(v), GATE_INT);

	/* A task of virtual 8086 mode: an INT3 there comes to ring 0 on the new task's stack. */
	set_gate(3, stub(3), GATE_INT | GATE_DPL3);
	fresh2((void *)0x10);
	t2.eflags = F_VM | F_CF | 2;
	for (int i = 0; i < 6; i++)
		t2.segs[i] = i == 1 ? 0x900 : 0x1000 * i;
	t2.regs[4] = 0xfff0;
	*(u8 *)0x9010 = 0xcc;
	attempt("8086 task", jmp_tss, 0);
	say(" eip %x flags %05x sp %04x\n", came.eip, came.flags, came.esp);
	return 0;
}
