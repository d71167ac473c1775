/* Sensitive instructions whose memory or stack faults leave every register, ESP and EFLAGS as they were, EIP on them. */
#include "lib/rt.h"

enum { GAP = 0x40001000 };
/* Pops run with ESP at the end of a present page: they fault on the absent one, the #PF frame fits below. */
CODE(pop_es, "pop %es");
CODE(popf_, "popf");
CODE(iret_, "iret");
CODE(lret_, "lret");
CODE(sgdt_, "sgdt (%ebx)");
CODE(sidt_, "sidt -3(%ebx)");
CODE(smsw_, "smsw (%ebx)");
CODE(str_, "str -1(%ebx)");
CODE(mov_cs, "mov %cs, (%ebx)");
CODE(mov_ds, "mov (%ebx), %ds");
CODE(lfs_, "lfs -4(%ebx), %eax");
CODE(lgdt_, "lgdt -2(%ebx)");
CODE(lar_, "lar (%ebx), %eax");
CODE(verr_, "verr (%ebx)");
CODE(ljmp_, "ljmp *-4(%ebx)");
CODE(in_, "cld; mov $0x21, %edx; mov %ebx, %edi; insb");

static u32 seen_esp, seen_flags, seen_eip, seen_cr2, seen_error, wanted_esp;
extern void fault_return(void);

/* Runs code with ESP moved to `esp`; the fault handler goes back to the right stack. */
extern int with_esp(u32 esp, u32 ebx, const void *code);
asm("with_esp: push %ebp; push %ebx; push %esi; push %edi; mov %esp, with_esp_save; mov 20(%esp), %eax; mov 24(%esp), %ebx;"
    "mov 28(%esp), %ecx; mov $0xd1, %edi; mov $0x51, %esi; mov %eax, %esp; mov $0xa0a0a0a0, %eax; stc; jmp *%ecx\n"
    "fault_return: mov with_esp_save, %esp; pop %edi; pop %esi; pop %ebx; pop %ebp; ret\n.lcomm with_esp_save, 4");

static void pf(struct frame *f)
{
	seen_esp = frame_esp(f);
	seen_flags = f->eflags;
	seen_eip = f->eip;
	seen_cr2 = read_cr2();
	seen_error = f->error;
	if (f->eax != 0xa0a0a0a0 && f->edx != 0x21)
		say("eax %08x\n", f->eax);
	f->eip = (u32)fault_return;
}

static void show(const char *name, const void *code, u32 esp)
{
	wanted_esp = esp;
	with_esp(esp, GAP, code);
	say("%s: at +%u error %x cr2 %08x esp %s cf %u\n", name, seen_eip - (u32)code, seen_error, seen_cr2,
	    seen_esp == wanted_esp ? "kept" : "moved", seen_flags & 1);
}

int main(void)
{
	u32 *pd = identity_map(16, PG_P | PG_W);
	u32 *below = page();

	*pte(pd, GAP - 4096) = (u32)below | PG_P | PG_W;
	paging_on(pd, CR0_WP);
	on(14, pf);
	for (int i = 0; i < 2; i++) {
		show("pop es", pop_es, GAP);
		show("popf", popf_, GAP);
		below[1023] = (u32)fault_return;
		show("lret", lret_, GAP - 4);
		show("iret, eip only", iret_, GAP - 4);
		below[1022] = (u32)fault_return;
		below[1023] = SEL_KCODE;
		show("iret, no flags", iret_, GAP - 8);
		show("sgdt", sgdt_, (u32)below + 2048);
		show("sidt", sidt_, (u32)below + 2048);
		show("smsw", smsw_, (u32)below + 2048);
		show("str", str_, (u32)below + 2048);
		show("mov cs", mov_cs, (u32)below + 2048);
		show("mov ds", mov_ds, (u32)below + 2048);
		show("lfs", lfs_, (u32)below + 2048);
		show("lgdt", lgdt_, (u32)below + 2048);
		show("lar", lar_, (u32)below + 2048);
		show("verr", verr_, (u32)below + 2048);
		show("ljmp", ljmp_, (u32)below + 2048);
		show("ins", in_, (u32)below + 2048);
	}
	return 0;
}
