/* The CPU sets A at all four levels on any access, D in the last one on a write only (SDM 3, 4.8). */
#include "../lib64/rt.h"

CODE(read_it, "mov (%rbx), %rax");
CODE(write_it, "movb $0xc3, (%rbx)");
CODE(rmw_it, "incb (%rbx); decb (%rbx)");
CODE(push_it, "xchg %rbx, %rsp; push $0xc3; xchg %rbx, %rsp");
CODE(cmpxchg_it, "mov $0, %eax; lock cmpxchg %rcx, (%rbx)"); /* a failing one writes too */
static const u64 va = 0x00007f1240000000;
static u64 *root;

static void one(const char *name, const void *code, int ring, u64 flags, int last)
{
	struct try t;
	u64 target = last == 1 ? 0x1001000 : last == 2 ? 0x1000000 : 0;

	*(u8 *)virt(0x1001000) = 0xc3;
	map(root, va, target, flags); /* makes the tables */
	for (int level = 4; level > last; level--)
		*entry(root, va, level) &= ~(u64)(PG_A | PG_D);
	if (last > 1)
		*entry(root, va, last) = target | flags | PG_PS;
	use(root);
	fresh(&t);
	t.r.rbx = va + (0x1001000 - target) + (code == push_it ? 16 : 0);
	(ring ? go3 : go0)(name, code, &t);
	say(" ring %d flags %lx:", ring, flags);
	if (t.vector == 14) { /* whether a refused access sets A is the CPU's affair */
		say(" D %lu\n", *entry(root, va, last) >> 6 & 1);
	} else {
		for (int level = 4; level >= last; level--)
			say(" %d %c%c", level, *entry(root, va, level) & PG_A ? 'A' : '-', *entry(root, va, level) & PG_D ? 'D' : '-');
		say("\n");
	}
	if (last > 1)
		*entry(root, va, last) = 0;
	use(root);
}

int main(void)
{
	root = new_root();
	for (int last = 1; last <= 3; last++) {
		say("%s\n", last == 1 ? "4 KiB" : last == 2 ? "2 MiB" : "1 GiB");
		for (int ring = 0; ring < 4; ring += 3) {
			one("read", read_it, ring, PG_P | PG_W | PG_U, last);
			one("write", write_it, ring, PG_P | PG_W | PG_U, last);
			one("read-modify-write", rmw_it, ring, PG_P | PG_W | PG_U, last);
			one("push", push_it, ring, PG_P | PG_W | PG_U, last);
			one("cmpxchg", cmpxchg_it, ring, PG_P | PG_W | PG_U, last);
			one("read of read-only", read_it, ring, PG_P | PG_U, last);
			one("write of read-only", write_it, ring, PG_P | PG_U, last);
			one("read with D already", read_it, ring, PG_P | PG_W | PG_U | PG_D, last);
			one("read of NX", read_it, ring, PG_P | PG_W | PG_U | PG_NX, last);
		}
	}
	return 0;
}
