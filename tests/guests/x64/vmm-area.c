/* Where a VMM's own memory may be (PML4 entry 260, regions of 1 GiB, a few dozen pages from the start of each) the guest has mapped nothing. So the
 * kernel and the program find nothing: each access in every way, explicit, as code, as stack, as an instruction's operand, is #PF with P=0 and the
 * right address (SDM 3, 4.7). */
#include "../lib64/rt.h"

#define SLOT 0xffff820000000000ul
#define REGION (1ul << 30)

CODE(read_, "mov (%rbx), %rax");
CODE(write_, "movq $0, (%rbx)");
CODE(locked, "lock incq (%rbx)");
CODE(string_from, "mov %rbx, %rsi; lodsq");
CODE(string_to, "mov %rbx, %rdi; mov $2, %ecx; cld; rep stosq");
CODE(jmp_, "jmp *%rbx");
CODE(call_, "call *%rbx");
CODE(ret_, "push %rbx; ret");
CODE(jmp_through, "jmp *(%rbx)");
CODE(pop_, "mov %rbx, %rsp; pop %rax");
CODE(push_, "lea 8(%rbx), %rsp; push %rax");
CODE(call_on, "lea 8(%rbx), %rsp; call 1f; 1: nop");
CODE(ret_on, "mov %rbx, %rsp; ret");
CODE(enter_, "lea 8(%rbx), %rsp; enter $0, $0");
CODE(leave_, "mov %rbx, %rbp; leave");
CODE(popf_on, "mov %rbx, %rsp; popfq");
CODE(pushf_on, "lea 8(%rbx), %rsp; pushfq");
CODE(iret_on, "mov %rbx, %rsp; iretq");
CODE(lret_on, "mov %rbx, %rsp; rex.W lret");
CODE(far_jmp, "rex.W ljmp *(%rbx)");
CODE(far_call, "rex.W lcall *(%rbx)");
CODE(ds_from, "mov (%rbx), %ds");
CODE(ss_from, "mov (%rbx), %ss");
CODE(fs_from, "lfs (%rbx), %eax");
CODE(ss_pointer, "lss (%rbx), %eax");
CODE(fs_pop, "mov %rbx, %rsp; pop %fs");
CODE(sgdt_, "sgdt (%rbx)");
CODE(sidt_, "sidt (%rbx)");
CODE(str_, "str (%rbx)");
CODE(smsw_, "smsw (%rbx)");
CODE(verr_, "verr (%rbx)");
CODE(lar_, "lar (%rbx), %eax");
CODE(lgdt_, "lgdt (%rbx)");
CODE(lidt_, "lidt (%rbx)");
CODE(lldt_, "lldt (%rbx)");
CODE(ltr_, "ltr (%rbx)");
CODE(lmsw_, "lmsw (%rbx)");
CODE(xchg_, "xchg %rax, (%rbx)");
CODE(cas_, "lock cmpxchg16b (%rbx)");

enum { KERNEL = 1, BOTH = 3 };
/* W in the error code of what reads and writes is not told the same way everywhere: it counts as a read. */
enum { RMW = 4 };
static const struct { const char *name; const char *code; int kind; } ways[] = {
	{ "read", read_, BOTH }, { "write", write_, BOTH }, { "lock inc", locked, BOTH | RMW }, { "xchg", xchg_, BOTH | RMW }, { "cmpxchg16b", cas_, BOTH | RMW },
	{ "lods", string_from, BOTH }, { "rep stos", string_to, BOTH }, { "jmp", jmp_, BOTH }, { "call", call_, BOTH }, { "ret", ret_, BOTH },
	{ "jmp through it", jmp_through, BOTH }, { "pop", pop_, BOTH }, { "push", push_, BOTH }, { "call on it", call_on, BOTH }, { "ret on it", ret_on, BOTH },
	{ "enter", enter_, BOTH }, { "leave", leave_, BOTH }, { "popf", popf_on, BOTH }, { "pushf", pushf_on, BOTH }, { "iret", iret_on, BOTH },
	{ "far ret", lret_on, BOTH }, { "far jmp", far_jmp, BOTH }, { "far call", far_call, BOTH }, { "mov ds", ds_from, BOTH }, { "mov ss", ss_from, BOTH },
	{ "lfs", fs_from, BOTH }, { "lss", ss_pointer, BOTH }, { "pop fs", fs_pop, BOTH }, { "sgdt", sgdt_, BOTH }, { "sidt", sidt_, BOTH }, { "str", str_, BOTH },
	{ "smsw", smsw_, BOTH }, { "verr", verr_, BOTH }, { "lar", lar_, BOTH }, { "lgdt", lgdt_, KERNEL }, { "lidt", lidt_, KERNEL }, { "lldt", lldt_, KERNEL },
	{ "ltr", ltr_, KERNEL }, { "lmsw", lmsw_, KERNEL },
};
/* Image, control page, IDTs, shadow GDT, transition GDT, LDT, and what lies between. */
static const u32 pages[] = { 0, 1, 2, 3, 4, 5, 6, 15, 16, 17, 31, 32, 33, 47, 48, 63, 64, 79, 80, 511, 512, 262143 };

int main(void)
{
	u32 tries = 0, odd = 0;

	set_gate(14, stub(14), GATE_INT, 1);
	for (u32 w = 0; w < sizeof ways / sizeof *ways; w++)
		for (int ring = 0; ring <= 3; ring += 3) {
			u64 error = 0;
			int first = 1;

			if (ring && ways[w].kind == KERNEL)
				continue;
			for (u64 region = 0; region < 3; region++)
				for (u32 p = 0; p < sizeof pages / sizeof *pages; p++) {
					u64 at = SLOT + region * REGION + ((u64)pages[p] << 12) + (p + w) % 3 * 0x7f0;
					struct try t;

					fresh(&t);
					t.r.rbx = at;
					t.code = ring ? (const char *)low(ways[w].code) : ways[w].code;
					(ring ? try3 : try0)(&t, ways[w].code);
					tries++;
					if (ways[w].kind & RMW)
						t.error &= ~2ul;
					if (first) {
						say("%s ring %d: %s error %lx, rip %s\n", ways[w].name, ring, vector_name(t.vector), t.error,
						    t.error & 16 ? t.rip == at ? "there" : "ELSEWHERE" : t.rip - (u64)t.code < 64 ? "here" : "ELSEWHERE");
						error = t.error;
						first = 0;
					}
					if (t.vector != 14 || t.error != error || t.cr2 != at) {
						if (odd++ < 20)
							say(" at %016lx: %s error %lx cr2 %016lx\n", at, vector_name(t.vector), t.error, t.cr2);
					}
				}
		}
	say("%u tries\n", tries);
	check("nothing there", odd == 0);
	/* What is of no consequence: no fault, and nothing happens. */
	for (u32 p = 0; p < 80; p++) {
		invlpg(SLOT + ((u64)p << 12));
		asm volatile("prefetcht0 (%0); nopl (%0); lea (%0), %%rax" : : "r"(SLOT + ((u64)p << 12)) : "rax");
	}
	return 0;
}
