/* VERW of the same word again and again, as kernels execute it on their way to programs: x64/verw.c of 32-bit code (SDM 2, VERR/VERW). */
#include "lib/rt.h"

/* On the page of the code that asks. */
asm(".pushsection .guest,\"ax\"\n.balign 4096\n.globl word\nword: .word 0x10, 0\n.popsection");
extern volatile u16 word;

#define ASK(operand) \
	"push %ebx; push %esi; push %edi; xor %esi, %esi; xor %edi, %edi; mov $200, %ebx; mov $0x11223344, %ecx;" \
	"1: mov $0x7f, %al; add $1, %al; stc; std; verw " operand "; pushf; pop %edx; cld;" \
	"mov %edx, %eax; shr $6, %eax; and $1, %eax; add %eax, %esi; or %edx, %edi; dec %ebx; jnz 1b;" \
	"mov %esi, %eax; mov %edi, %edx; pop %edi; pop %esi; pop %ebx"
CODE(by_cs, ASK("%cs:word"));
CODE(by_ds, ASK("word"));

static void ask(const char *name)
{
	struct try t;
	const char *code[] = { by_cs, by_ds };
	const u32 others = F_CF | F_PF | F_AF | F_SF | F_OF | F_DF;

	for (int i = 0; i < 2; i++) {
		fresh(&t);
		if (try0(&t, code[i]))
			report(name, &t);
		else
			say("%s: %u of 200, flags %x, ecx %x\n", name, t.r.eax, t.r.edx & others, t.r.ecx);
	}
}

static void set(u16 selector, const char *name)
{
	word = selector;
	ask(name);
}

int main(void)
{
	const u16 own = SEL_FREE;

	/* Without paging there is no place for blocks. */
	set(SEL_KDATA, "without paging");
	paging_on(identity_map(16, PG_P | PG_W), CR0_WP);
	set(SEL_KDATA, "data");
	set(SEL_KCODE, "code");
	set(SEL_KDATA, "data again");
	set(SEL_KDATA | 3, "ring 0's data with RPL 3");
	set(SEL_UDATA, "ring 3's data");
	set(0, "null");
	set(0xfff8, "beyond the table");
	gdt[own / 8] = descriptor(0, 0xfffff, 0x93, FLAG_G | FLAG_D);
	set(own, "own");
	gdt[own / 8] = descriptor(0, 0xfffff, 0x91, FLAG_G | FLAG_D);
	ask("read-only");
	gdt[own / 8] = descriptor(0, 0xfffff, 0x93, FLAG_G | FLAG_D);
	ask("writable");
	return 0;
}
