/* A pending interrupt comes as soon as IRET to ring 3 sets IF; ring 3 with IOPL 3 may open and close itself (SDM 3, 6.8.1). */
#include "lib/pending.h"

CODE(at_once, "nop; nop");
CODE(by_sti, "nop; sti; nop; nop; cli");
CODE(by_popf, "push $0x3202; popf; nop; nop; cli");
CODE(closed, "nop; nop");

int main(void)
{
	irq_setup();
	irq_try("iret with IF", at_once, 3, F_IF);
	irq_try("sti with IOPL 3", by_sti, 3, F_IOPL);
	irq_try("popf with IOPL 3", by_popf, 3, F_IOPL);
	irq_try("IF clear", closed, 3, 0);
	return 0;
}
