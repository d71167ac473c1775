/* Kernel code that reads itself sees its own bytes: before, while and after it runs, RIP-relative, by its low alias, with REP and by ring 3
 * (equivalence; nothing in the architecture lets code differ from data). */
#include "../lib64/rt.h"

CODE(sum, "lea sum(%rip), %rsi; xor %eax, %eax; mov $sum_end-sum, %ecx; 1: movzbl (%rsi), %edx; rol $1, %eax; add %edx, %eax; inc %rsi; dec %ecx; jnz 1b;"
	"cli; pushfq; pop %rbx; sti; cli; mov %cs, %ebx; push %rbx; popfq; sgdt -32(%rsp); mov %cr0, %rbx");
CODE(user_sum, "xor %eax, %eax; 1: movzbl (%rsi), %edx; rol $1, %eax; add %edx, %eax; inc %rsi; dec %ecx; jnz 1b");

static u32 checksum(const u8 *p, u64 n)
{
	u32 s = 0;

	while (n--)
		s = (s << 1 | s >> 31) + *p++;
	return s;
}

int main(void)
{
	static u8 copy[256];
	u64 n = (u64)(sum_end - sum);
	struct try t;

	pic_init();
	say("%lu bytes, first %08x\n", n, checksum((u8 *)sum, n));
	for (int i = 0; i < 20; i++) {
		fresh(&t);
		try0(&t, sum);
		memcpy(copy, sum, n);
		if (i % 5 == 0 || t.r.rax != checksum((u8 *)sum, n))
			say("itself %08lx, from outside %08x, the alias %08x, rep movs %08x, sgdt at +%x\n", t.r.rax, checksum((u8 *)sum, n),
			    checksum((u8 *)low(sum), n), checksum(copy, n), copy[n - 9]);
	}
	fresh(&t);
	t.r.rsi = low(sum);
	t.r.rcx = n;
	go3("ring 3", user_sum, &t);
	say(" %08lx\n", t.r.rax);
	return 0;
}
