/* INVD and WBINVD are #GP in ring 3 (SDM 2, INVD). */
#include "lib/rt.h"

CODE(wb, "wbinvd");
CODE(inv, "invd");

int main(void)
{
	go3("wbinvd", wb, 0);
	go3("invd", inv, 0);
	return 0;
}
