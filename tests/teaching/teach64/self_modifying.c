/* Code that is written while it runs, by its own name and by others. */
#include "kernel.h"

extern u8 smc_next[], smc_alias[], smc_loop[], smc_mixed[];
extern u32 smc_counter;
asm(".section .data\n.balign 4096\n"
	"smc_next: movb $0x11, 1f + 1(%rip)\n1: mov $0, %al\nmovb $0x22, 2f + 1(%rip)\n2: mov $0, %ah\nmovw $0x9090, 3f(%rip)\n3: ud2\nmovzwl %ax, %eax\nret\n"
	/* Its own bytes by the identity map and by the direct one. */
	"smc_alias: lea 1f + 1(%rip), %rdx\nmov $0x80000000, %ecx\nadd %rcx, %rdx\nmovl %edx, %edx\nmovb $0x33, (%rdx)\n1: mov $0, %al\n"
	"movabs $0xffff800000000000, %rcx\nadd %rcx, %rdx\nincb (%rdx)\nmovzbl %al, %eax\nret\n"
	"smc_loop: xor %eax, %eax\nmov $100, %ecx\n1: xorb $8, 2f + 1(%rip)\n2: inc %eax\nadd %ecx, %eax\nloop 1b\nret\n"
	"smc_mixed: mov $1000, %ecx\n1: incl smc_counter(%rip)\nloop 1b\nmov smc_counter(%rip), %eax\nret\nsmc_counter: .long 0\n.text\n");

static u32 run(void *code)
{
	u32 result;
	asm volatile("call *%1" : "=a"(result) : "r"(code) : "rcx", "rdx", "memory", "cc");
	return result;
}

void test_self_modifying(void)
{
	test("self-modifying");
	want("next", run(smc_next), 0x2211);
	want("again", run(smc_next), 0x2211);
	want("by other names", run(smc_alias), 0x33);
	want("and again", run(smc_alias), 0x33);
	want("loop", run(smc_loop), 5050);
	want("counter among code", run(smc_mixed), 1000);

	test("self-modifying-names");
	want("low", run((void *)physical(smc_mixed)), 2000);
	want("direct", run(direct(physical(smc_mixed))), 3000);
	want("loop", run((void *)physical(smc_loop)), 5050);
}
