/* LDS, LES, LSS, LFS, LGS load both parts, or neither when the selector is refused (SDM 2, LDS). */
#include "lib/segloads.h"

CODE(lds, "push %ecx; push $0x12345678; lds (%esp), %esi; mov %ds, %eax; mov %ss, %edx; mov %edx, %ds; add $8, %esp");
CODE(les, "push %ecx; push $0x12345678; les (%esp), %esi; mov %es, %eax; add $8, %esp");
CODE(lfs, "push %ecx; push $0x12345678; lfs (%esp), %esi; mov %fs, %eax; add $8, %esp");
CODE(lgs, "pushw %cx; pushw $0x5678; lgsw (%esp), %si; mov %gs, %eax; add $4, %esp");
CODE(lss, "mov %ss, %edx; mov %esp, %ebp; push %ecx; push %ebp; lss (%esp), %esp; mov %ss, %eax; mov %edx, %ss; mov %esp, %esi; sub %ebp, %esi");
CODE(lds_register, ".byte 0xc5, 0xc0");
CODE(lss_register, ".byte 0x0f, 0xb2, 0xc0");

static void one(const char *name, const void *code, int ring)
{
	struct try t;

	segloads_all(name, code, ring);
	fresh(&t);
	t.r.ecx = SEL_UDATA;
	(ring ? go3 : go0)(name, code, &t);
	say(" user data: eax %04x esi %08x\n", t.r.eax & 0xffff, t.r.esi);
	fresh(&t);
	t.r.ecx = 0x208;
	(ring ? go3 : go0)(name, code, &t);
	say(" refused: eax %04x esi %08x\n", t.r.eax & 0xffff, t.r.esi);
}

int main(void)
{
	for (int ring = 0; ring < 4; ring += 3) {
		one("lds", lds, ring);
		one("les", les, ring);
		one("lfs", lfs, ring);
		one("lgs", lgs, ring);
	}
	segloads_all("lss", lss, 0);
	segloads_all("lss", lss, 3);
	BOTH(lds_register);
	BOTH(lss_register);
	return 0;
}
