/* CR8: four bits of task priority; the others are #GP (SDM 3, 11.8.6). */
#include "../lib64/rt.h"

CODE(cr8, "mov %rbx, %cr8; mov %cr8, %rax");

int main(void)
{
	static const u64 values[] = { 0, 1, 7, 15, 16, 0xff, 1ul << 32, 0 };
	struct try t;

	for (u32 i = 0; i < sizeof values / sizeof *values; i++) {
		fresh(&t);
		t.r.rbx = values[i];
		go0("cr8", cr8, &t);
		say(" %lx: %lx\n", values[i], t.r.rax);
	}
	go3("ring 3", cr8, 0);
	return 0;
}
