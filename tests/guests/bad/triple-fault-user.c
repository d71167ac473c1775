/* Ring 3 traps and the TSS's stack is not there: #PF, #DF, shutdown. */
#include "../lib/rt.h"

CODE(user, "mov $0x40000000, %eax; movl $0x40001000, tss_esp0; ud2");

int main(void)
{
	say("going down\n");
	paging_on(identity_map(16, PG_P | PG_W | PG_U), CR0_WP);
	go3("user", user, 0);
	return 1;
}
