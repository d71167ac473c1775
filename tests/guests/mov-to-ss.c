/* MOV to SS, POP SS: RPL and DPL must be CPL, writable data only; #SS for an absent one is in ss-absent (SDM 2, MOV). */
#include "lib/segloads.h"

CODE(load_ss, "mov %ss, %edx; mov %ecx, %ss; mov %ss, %eax; mov %edx, %ss");
CODE(pop_ss, "mov %ss, %edx; push %ecx; pop %ss; mov %ss, %eax; mov %edx, %ss");

int main(void)
{
	for (int ring = 0; ring < 4; ring += 3) {
		segloads_all("mov ss", load_ss, ring);
		segloads_all("pop ss", pop_ss, ring);
	}
	return 0;
}
