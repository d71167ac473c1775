/* INVD, WBINVD and WBNOINVD (which older CPUs take for WBINVD) in the 64-bit kernel do nothing that software sees; in programs, 64-bit and compatibility
 * ones, they are #GP(0) (SDM 2, INVD, WBINVD). */
#include "../lib64/rt.h"

CODE(invd, "invd");
CODE(wbinvd, "wbinvd");
CODE(wbnoinvd, ".byte 0xf3, 0x0f, 0x09");
CODE32(invd32, "invd");
CODE32(wbinvd32, "wbinvd");

int main(void)
{
	BOTH(invd);
	BOTH(wbinvd);
	BOTH(wbnoinvd);
	go32("invd compat", invd32, 0);
	go32("wbinvd compat", wbinvd32, 0);
	return 0;
}
