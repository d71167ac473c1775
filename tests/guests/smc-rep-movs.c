/* REP MOVS writes over code ahead of it, and over another page's code, and both run as written. */
#include "lib/rt.h"

extern char victim[], new_code[];
asm(".pushsection .guest,\"ax\"\n.balign 4096\nvictim: mov $1, %eax\npush %cs\npop %ecx\nret\n"
    "new_code: mov $2, %eax\npush %ss\npop %ecx\nret\n.balign 4096\n.popsection");
CODE(overwrite_next, "cld; mov $9f, %esi; mov $1f, %edi; mov $6, %ecx; xor %eax, %eax; rep movsb; jmp 1f; 1: .fill 6, 1, 0x90; ret; 9: inc %eax; push %cs; pop %ecx; inc %eax; inc %eax; inc %eax");

int main(void)
{
	static u8 old[16];
	struct try t;

	memcpy(old, victim, 9);
	for (int i = 0; i < 4; i++) {
		memcpy(victim, i & 1 ? (char *)old : new_code, 9);
		fresh(&t);
		go0("another page", victim, &t);
		say(" eax %08x ecx %04x\n", t.r.eax, t.r.ecx & 0xffff);
	}
	fresh(&t);
	go0("its own next", overwrite_next, &t);
	say(" eax %08x ecx %04x\n", t.r.eax, t.r.ecx & 0xffff);
	return 0;
}
