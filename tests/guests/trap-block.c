/* Sensitive instructions that no jump has room for, of 32-bit code: lib/trap-block.h. */
#include "lib/rt.h"
#include "lib/ticks.h"
#include "lib/trap-block.h"

int main(void)
{
	paging_on(identity_map(16, PG_P | PG_W | PG_U), CR0_WP);
	on(IRQ_BASE, tick);
	pic_init();
	on(2, nmi);
	set_gate(0x80, int_80, GATE_TRAP | GATE_DPL3);
	everything();
	return 0;
}
