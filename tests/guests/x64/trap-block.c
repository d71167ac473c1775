/* Sensitive instructions that no jump has room for, of 64-bit code: lib/trap-block.h. */
#include "../lib64/rt.h"
#include "../lib/ticks.h"
#include "../lib/trap-block.h"

int main(void)
{
	on(IRQ_BASE, tick);
	pic_init();
	on(2, nmi);
	set_gate(0x80, int_80, GATE_TRAP | GATE_DPL3, 0);
	everything();
	return 0;
}
