/* SYSENTER from ring 3 and SYSEXIT back: selectors from SYSENTER_CS, ESP and EIP from the MSRs, IF cleared; #GP without CS (SDM 2). */
#include "lib/rt.h"

extern char boot_stack[];
u32 entry_saw[4];
void sysenter_entry(void);
/* Ring 3 puts its return address in EDX and its stack in ECX, as SYSEXIT wants them. */
CODE(call_kernel, "push %ebp; mov $1f, %edx; mov %esp, %ecx; sysenter; ud2; 1: pop %ebp; mov %cs, %ebx; mov %ss, %esi");
CODE(only_enter, "sysenter");
CODE(only_exit, "mov $1f, %edx; mov %esp, %ecx; sysexit; 1: nop");
asm(".text\nsysenter_entry: mov %cs, entry_saw; mov %ss, entry_saw+4; mov %esp, entry_saw+8; pushf; pop entry_saw+12; mov $0x1234, %eax; sysexit");

int main(void)
{
	struct try t;

	wrmsr(0x174, 0);
	BOTH(only_enter);
	BOTH(only_exit);
	wrmsr(0x174, SEL_KCODE);
	wrmsr(0x175, (u32)boot_stack + 4096);
	wrmsr(0x176, (u32)sysenter_entry);
	say("msrs %x %s %s\n", (u32)rdmsr(0x174), rdmsr(0x175) == (u32)boot_stack + 4096 ? "esp" : "-",
	    rdmsr(0x176) == (u32)sysenter_entry ? "eip" : "-");
	pic_init();
	for (int i = 0; i < 2; i++) {
		fresh(&t);
		t.r.eflags = i ? F_IF | 2 : 2;
		go3("call", call_kernel, &t);
		say(" eax %x ebx %04x esi %04x eflags.if %u\n", t.r.eax, t.r.ebx & 0xffff, t.r.esi & 0xffff, t.r.eflags >> 9 & 1);
		say(" entry: cs %04x ss %04x esp %s eflags %08x\n", entry_saw[0] & 0xffff, entry_saw[1] & 0xffff,
		    entry_saw[2] == (u32)boot_stack + 4096 ? "right" : "WRONG", entry_saw[3] & F_SYSTEM);
	}
	go3("sysexit in ring 3", only_exit, 0);
	return 0;
}
