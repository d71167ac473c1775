/* SGDT and SIDT store ten bytes, LGDT and LIDT load ten; SLDT, STR and SMSW at every operand size; ring 3 may read, not load (SDM 2; CR4.UMIP = 0). */
#include "../lib64/rt.h"

u8 buffer[16] USER;
CODE(sgdt_, "sgdt (%rbx)");
CODE(sidt_, "sidt (%rbx)");
CODE(sgdt_rip, "sgdt buffer(%rip)");
CODE(sidt_16, "data16 sidt (%rbx)");
CODE(sgdt_rsp, "sub $16, %rsp; sgdt (%rsp); mov (%rsp), %ax; mov 2(%rsp), %r8; add $16, %rsp");
CODE(sldt_, "sldt %rax; sldt %ecx; sldt %dx; sldt (%rbx)");
CODE(str_, "str %rax; str %ecx; str %dx; str (%rbx)");
CODE(smsw_, "smsw %rax; smsw %ecx; smsw %dx; smsw (%rbx)");
CODE(lgdt_, "lgdt (%rbx)");
CODE(lidt_, "lidt (%rbx)");
CODE(lldt_, "lldt %cx; sldt %eax");
CODE(ltr_, "ltr %cx; str %eax");

static void show(const char *name, const void *code, int bytes)
{
	struct try t;

	memset(buffer, 0x55, sizeof buffer);
	fresh(&t);
	t.r.rbx = (u64)buffer;
	go0(name, code, &t);
	for (int i = 0; i < bytes; i++)
		say(" %02x", buffer[i]);
	say("  rax %lx rcx %lx rdx %lx r8 %lx\n", t.r.rax, t.r.rcx, t.r.rdx, t.r.r8);
}

static void load(const char *name, const void *code, u64 rcx)
{
	struct try t;

	fresh(&t);
	t.r.rcx = rcx;
	t.r.rbx = (u64)buffer;
	go0(name, code, &t);
	say(" %lx: %lx\n", rcx, t.r.rax & 0xffff);
}

int main(void)
{
	/* Bases that do not move with the image. */
	static struct dtr g = { sizeof gdt - 1, KBASE + 0x700000 }, i = { sizeof idt - 1, KBASE + 0x701000 };

	memcpy(virt(0x700000), gdt, sizeof gdt);
	memcpy(virt(0x701000), idt, sizeof idt);
	u64 *new_gdt = virt(0x700000);

	asm volatile("lgdt %0; lidt %1" : : "m"(g), "m"(i));
	show("sgdt", sgdt_, 12);
	show("sidt", sidt_, 12);
	show("sgdt rip", sgdt_rip, 12);
	show("sidt 66", sidt_16, 12);
	show("sgdt rsp", sgdt_rsp, 0);
	show("sldt", sldt_, 4);
	show("str", str_, 4);
	show("smsw", smsw_, 4);
	system_descriptor(new_gdt + SEL_LDT / 8, (u64)ldt, sizeof ldt - 1, 0x82);
	load("lldt", lldt_, SEL_LDT);
	load("lldt null", lldt_, 0);
	load("lldt of code", lldt_, SEL_KCODE);
	load("lldt beyond", lldt_, 0x400);
	load("lldt of the tss", lldt_, SEL_TSS);
	new_gdt[SEL_LDT / 8] &= ~((u64)ACC_P << 40);
	load("lldt absent", lldt_, SEL_LDT);
	load("ltr busy", ltr_, SEL_TSS);
	new_gdt[SEL_TSS / 8] &= ~(2ul << 40);
	load("ltr", ltr_, SEL_TSS);
	say("busy: %lx\n", new_gdt[SEL_TSS / 8] >> 40 & 0xf);
	load("ltr of code", ltr_, SEL_KCODE);
	go3("lgdt in ring 3", lgdt_, 0);
	go3("lidt in ring 3", lidt_, 0);
	go3("lldt in ring 3", lldt_, 0);
	go3("ltr in ring 3", ltr_, 0);
	struct try t;

	for (int k = 0; k < 4; k++) {
		static const void *const code[] = { sgdt_, sidt_, sldt_, str_ };

		memset(buffer, 0x55, sizeof buffer);
		fresh(&t);
		t.r.rbx = low(buffer);
		go3("ring 3", code[k], &t);
		for (int b = 0; b < 12; b++)
			say(" %02x", buffer[b]);
		say("\n");
	}
	return 0;
}
