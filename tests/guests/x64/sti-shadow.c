/* STI holds interrupts back for one instruction; POPF and IRET do not (SDM 2, STI; SDM 3, 6.8.3). */
#include "../lib64/pending.h"

CODE(sti_cli, "sti; cli; nop");
CODE(sti_nop, "sti; nop; nop; cli");
CODE(sti_hlt, "sti; hlt; nop; cli");
CODE(sti_long, "sti; mov $0x12345678, %eax; nop; cli");
CODE(sti_jmp, "sti; jmp 1f; nop; 1: nop; cli");
CODE(sti_ret, "push $1f; sti; ret; nop; 1: nop; cli");
CODE(sti_pushf, "sti; pushfq; nop; cli; pop %rax");
CODE(popfq_if, "push $0x202; popfq; nop; cli");
CODE(popfq_cli, "push $0x202; popfq; cli; nop");
CODE(iret_if, "mov %rsp, %rax; push $0x10; push %rax; push $0x202; push $8; push $1f; iretq; nop; 1: nop; cli");
CODE(cli_only, "cli; nop; nop");
CODE(sti_iret, "mov %rsp, %rax; push $0x10; push %rax; push $0x202; push $8; push $1f; sti; iretq; nop; 1: nop; cli");
CODE(sysret_if, "swapgs; sti; nop; nop; cli; swapgs");

int main(void)
{
	irq_setup();
	irq_try("sti; cli", sti_cli, 0, 0);
	irq_try("sti; nop", sti_nop, 0, 0);
	irq_try("sti; hlt", sti_hlt, 0, 0);
	irq_try("sti; mov", sti_long, 0, 0);
	irq_try("sti; jmp", sti_jmp, 0, 0);
	irq_try("sti; ret", sti_ret, 0, 0);
	irq_try("sti; pushf", sti_pushf, 0, 0);
	irq_try("popf", popfq_if, 0, 0);
	irq_try("popf; cli", popfq_cli, 0, 0);
	irq_try("iret", iret_if, 0, 0);
	irq_try("sti; iret", sti_iret, 0, 0);
	irq_try("swapgs; sti", sysret_if, 0, 0);
	irq_try("cli", cli_only, 0, 0);
	return 0;
}
