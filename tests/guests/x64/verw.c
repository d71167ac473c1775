/* VERW of the same word again and again, as kernels execute it on their way to programs: ZF is by the descriptor that the word names now, the other flags
 * stay (SDM 2, VERR/VERW). So it must be behind a change of the word, of the descriptor, of the table, and of the page at the word's address. */
#include "../lib64/rt.h"

#define VA 0xffffffff88000000
/* On the page of the code that asks. */
asm(".pushsection .guest,\"ax\"\n.balign 4096\n.globl word\nword: .word 0x10, 0\n.popsection");
extern volatile u16 word;

#define ASK(operand) \
	"xor %r9d, %r9d; xor %r10d, %r10d; mov $-1, %r11; mov $200, %ebx; mov $0x1122334455667788, %rcx;" \
	"1: mov $0x7f, %al; add $1, %al; stc; std; verw " operand "; pushfq; pop %rdx; cld;" \
	"mov %edx, %eax; shr $6, %eax; and $1, %eax; add %eax, %r9d; or %rdx, %r10; and %rdx, %r11; dec %ebx; jnz 1b"
CODE(near, ASK("word(%rip)"));
CODE(far, ASK("0xffffffff88000000"));
CODE(by_register, "lea word(%rip), %rdi;" ASK("(%rdi)"));

static void ask(const char *name, const char *code)
{
	struct try t;
	const u64 others = F_CF | F_PF | F_AF | F_SF | F_OF | F_DF;

	fresh(&t);
	if (try0(&t, code)) {
		report(name, &t);
		return;
	}
	say("%s: %lu of 200, flags %lx %lx, rcx %lx\n", name, t.r.r9, t.r.r10 & others, t.r.r11 & others, t.r.rcx);
}

static void set(u16 selector, const char *name)
{
	word = selector;
	ask(name, near);
}

int main(void)
{
	u16 *one = page(), *two = page();
	u64 *root = new_root(), *other = new_root(), *table = page();
	const u16 own = SEL_FREE;
	struct dtr dtr = { GDT_ENTRIES * 8 - 1, (u64)table };

	ask("data", near);
	ask("by register", by_register);
	set(SEL_KCODE, "code");
	set(SEL_KDATA, "data again");
	set(SEL_KDATA | 3, "ring 0's data with RPL 3");
	set(SEL_UDATA, "ring 3's data");
	set(0, "null");
	set(3, "null with RPL 3");
	set(0xfff8, "beyond the table");
	set(SEL_TSS, "TSS");

	gdt[own / 8] = descriptor(0, 0xfffff, ACC_P | ACC_S | ACC_DATA | ACC_A, FLAG_G | FLAG_D);
	set(own, "own");
	gdt[own / 8] = descriptor(0, 0xfffff, ACC_P | ACC_S | ACC_A, FLAG_G | FLAG_D);
	ask("read-only", near);
	gdt[own / 8] = descriptor(0, 0xfffff, ACC_S | ACC_DATA, FLAG_G | FLAG_D);
	ask("absent", near);
	gdt[own / 8] = descriptor(0, 0xfffff, ACC_P | ACC_S | ACC_DATA | ACC_A, FLAG_G | FLAG_D);
	ask("writable", near);
	for (int i = 0; i < GDT_ENTRIES; i++)
		table[i] = gdt[i];
	table[own / 8] = descriptor(0, 0xfffff, ACC_P | ACC_S | ACC_A, FLAG_G | FLAG_D);
	asm volatile("lgdt %0" : : "m"(dtr));
	ask("another table", near);
	load_gdt();
	ask("the first one", near);
	dtr = (struct dtr){ own - 1, (u64)gdt };
	asm volatile("lgdt %0" : : "m"(dtr));
	ask("a shorter one", near);
	load_gdt();

	one[0] = SEL_KDATA;
	two[0] = SEL_KCODE;
	use(root);
	ask("no page", far);
	map(root, VA, low(one), PG_P | PG_W);
	ask("one", far);
	ask("another word", near);
	ask("one again", far);
	map(root, VA, low(two), PG_P | PG_W);
	invlpg(VA);
	ask("two", far);
	two[0] = SEL_UDATA;
	ask("two written", far);
	for (int i = 0; i < 1000; i++)
		two[1 + i % 8] = i;
	ask("two written beside", far);
	two[0] = SEL_KCODE;
	ask("two written again", far);
	map(other, VA, low(one), PG_P);
	use(other);
	ask("another root", far);
	use(root);
	ask("the first root", far);
	return 0;
}
