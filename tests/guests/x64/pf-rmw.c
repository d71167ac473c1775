/* A read-modify-write access to a page that may only be read faults as a write, not first as a read (SDM 3, 4.7). */
#include "../lib64/rt.h"

CODE(inc, "incq (%rbx)");
CODE(lock_add, "lock addl $1, (%rbx)");
CODE(xchg_, "xchg %rax, (%rbx)");
CODE(cmpxchg_, "cmpxchg %rax, (%rbx)");
CODE(cmpxchg16, "cmpxchg8b (%rbx)");
CODE(bts_, "bts %rcx, (%rbx)");

int main(void)
{
	static const struct { const char *name; const char *code; } all[] = {
		{ "inc", inc }, { "lock add", lock_add }, { "xchg", xchg_ }, { "cmpxchg", cmpxchg_ }, { "cmpxchg8b", cmpxchg16 }, { "bts", bts_ },
	};
	static const u64 flags[] = { 0, PG_P, PG_P | PG_U, PG_P | PG_W };
	u64 *root = new_root(), va = 0x00007f1234567000, target = low(page());

	for (u32 f = 0; f < 4; f++)
		for (u32 i = 0; i < sizeof all / sizeof *all; i++) {
			map(root, va, target, flags[f]);
			use(root);
			for (int ring = 0; ring < 4; ring += 3) {
				struct try t;

				if (f == 3 && !ring)
					continue;
				fresh(&t);
				t.r.rbx = va;
				t.r.rcx = 1;
				say("%lx ", flags[f]);
				(ring ? go3 : go0)(all[i].name, all[i].code, &t);
			}
		}
	return 0;
}
