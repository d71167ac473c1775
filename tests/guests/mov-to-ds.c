/* MOV to DS, ES, FS, GS checks selector, type, privilege and presence as the manual's order says (SDM 2, MOV; SDM 3, 5.6). */
#include "lib/segloads.h"

CODE(load_ds, "mov %ecx, %ds; mov %ds, %eax; mov %ss, %edx; mov %edx, %ds");
CODE(load_es, "mov %ecx, %es; mov %es, %eax");
CODE(load_fs, "mov %ecx, %fs; mov %fs, %eax");
CODE(load_gs_mem, "push %ecx; mov (%esp), %gs; pop %ecx; mov %gs, %eax");

int main(void)
{
	for (int ring = 0; ring < 4; ring += 3) {
		segloads_all("mov ds", load_ds, ring);
		segloads_all("mov es", load_es, ring);
		segloads_all("mov fs", load_fs, ring);
		segloads_all("mov gs, mem", load_gs_mem, ring);
	}
	return 0;
}
