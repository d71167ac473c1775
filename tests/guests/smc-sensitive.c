/* A harmless instruction becomes a sensitive one and back, through the executable mapping and through an alias. */
#include "lib/rt.h"

enum { ALIAS = 0x40000000 };
extern char site[], site_end[];
asm(".pushsection .guest,\"ax\"\n.balign 4096\n.globl site\nsite: push %eax\npop %eax\nmovzwl %ax, %eax\nmov $0x77, %ecx\nret\nsite_end:\n.balign 4096\n.popsection");

static void run(const char *name)
{
	struct try t;

	fresh(&t);
	asm volatile("cpuid" : : "a"(0) : "ebx", "ecx", "edx"); /* serialise */
	go0(name, site, &t);
	say(" eax %08x ecx %08x\n", t.r.eax, t.r.ecx);
}

int main(void)
{
	volatile u8 *at[2] = { (u8 *)site, (u8 *)ALIAS };
	u32 *pd = identity_map(16, PG_P | PG_W);

	*pte(pd, ALIAS) = (u32)site | PG_P | PG_W;
	paging_on(pd, CR0_WP);
	for (int alias = 0; alias < 2; alias++) {
		say(alias ? "through an alias\n" : "in place\n");
		run("push pop");
		at[alias][0] = 0x0e; /* push %cs */
		run("push cs");
		at[alias][0] = 0x16; /* push %ss */
		run("push ss");
		at[alias][0] = 0x9c; /* pushf */
		at[alias][1] = 0x9d; /* popf */
		run("pushf popf");
		at[alias][0] = 0xfa; /* cli */
		at[alias][1] = 0x90;
		run("cli");
		at[alias][0] = 0xcc;
		run("int3");
		at[alias][0] = 0x50;
		at[alias][1] = 0x58;
		run("push pop");
		say("read back %02x %02x %02x %02x\n", at[!alias][0], at[!alias][1], at[!alias][2], at[!alias][3]);
	}
	return 0;
}
