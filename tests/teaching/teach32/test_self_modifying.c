/* Code that is written while it runs: the next instruction, by its own address and by the low map; loops that change themselves; counters
 * among the code; code that is moved. */
#include "kernel.h"

/* All in one page, with its data. */
extern u8 smc_next[], smc_alias[], smc_loop[], smc_mixed[], smc_rep[], smc_end[];
extern u32 smc_counter;
asm(".section .data\n.balign 4096\n"
	/* Each instruction is changed by the one before it. */
	"smc_next: movb $0x11, 1f + 1\n1: mov $0, %al\nmovb $0x22, 2f + 1\n2: mov $0, %ah\nmovw $0x9090, 3f\n3: ud2\nmovzwl %ax, %eax\nret\n"
	"smc_alias: movb $0x33, 1f + 1 - 0xc0000000\n1: mov $0, %al\nmovzbl %al, %eax\nincb 1b + 1\nret\n"
	/* INC becomes DEC and back, in a loop. */
	"smc_loop: xor %eax, %eax\nmov $100, %ecx\n1: xorb $8, 2f\n2: inc %eax\nadd %ecx, %eax\nloop 1b\nret\n"
	"smc_mixed: mov $1000, %ecx\n1: incl smc_counter\nloop 1b\nmov smc_counter, %eax\nret\nsmc_counter: .long 0\n"
	/* A string that overwrites what follows it with NOPs, over an UD2. */
	"smc_rep: mov $0x90, %al\nmov $1f, %edi\nmov $6, %ecx\ncld\nrep stosb\n1: ud2\nud2\nud2\nmov $77, %eax\nret\n"
	"smc_end:\n.text\n");

static u32 run(u8 *code)
{
	u32 result;
	asm volatile("call *%1" : "=a"(result) : "r"(code) : "ecx", "edx", "edi", "memory", "cc");
	return result;
}

void test_self_modifying(void)
{
	static u8 other[PAGE] __attribute__((aligned(64)));
	u8 whole[6];

	test("self-modifying");
	want("next", run(smc_next), 0x2211);
	want("again", run(smc_next), 0x2211);
	want("by the low map", run(smc_alias), 0x33);
	want("and once more", run(smc_alias), 0x33);
	/* 1 is added 50 times and taken 50 times. */
	want("loop", run(smc_loop), 5050);
	want("counter among code", run(smc_mixed), 1000);
	want("and again", run(smc_mixed), 2000);
	memcpy(whole, smc_rep + 13, 6);
	want("string over itself", run(smc_rep), 77);

	test("self-modifying-low");
	/* The same code at its low address. */
	smc_counter = 0;
	want("counter", run((u8 *)low(smc_mixed)), 1000);
	want("loop", run((u8 *)low(smc_loop)), 5050);

	test("code-moved");
	/* A function at each of 32 places, then written anew in one place; position-independent. */
	u32 sum = 0;
	for (u32 i = 0; i < 32; i++) {
		memcpy(other + i * 61, smc_loop, 8);
		u8 code[] = { 0xb8, i, 0, 0, 0, 0x83, 0xc0, i, 0xc3 };
		memcpy(other + i * 61, code, sizeof code);
		sum += run(other + i * 61);
	}
	want("sum", sum, 31 * 32);
	for (u32 i = 0; i < 256; i++) {
		other[1] = i;
		sum += run(other);
	}
	want("sum after", sum, 31 * 32 + 255 * 128);

	test("code-replaced");
	/* A page of code for another, under one address. */
	u32 pages[2];
	for (u32 i = 0; i < 2; i++) {
		u8 code[] = { 0xb8, 0x40 + i, 0, 0, 0, 0xc3 };
		pages[i] = page_new();
		memcpy(high(pages[i]), code, sizeof code);
	}
	sum = 0;
	for (u32 i = 0; i < 20; i++) {
		*page_entry(kernel_directory, 0x30000000, 1) = pages[i % 2] | PRESENT | WRITE;
		invlpg(0x30000000);
		sum = sum * 3 + run((u8 *)0x30000000) - 0x40;
		/* Written by another name. */
		((u8 *)high(pages[i % 2]))[2] ^= 1;
		sum += run((u8 *)0x30000000) >> 8;
	}
	u32 wanted = 0;
	for (u32 i = 0; i < 20; i++)
		wanted = wanted * 3 + i % 2 + (i / 2 % 2 ? 0x100 : 0) + (i / 2 % 2 ? 0 : 1);
	want("sum", sum, wanted);
	*page_entry(kernel_directory, 0x30000000, 0) = 0;
	invlpg(0x30000000);
}
