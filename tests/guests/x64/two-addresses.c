/* One page of code at several linear addresses, low, high and far apart: RIP-relative data and return addresses are those of the address in use
 * (SDM 2, 2.2.1.6). */
#include "../lib64/rt.h"

CODE(code, "lea code(%rip), %rax; call 1f; 1: pop %rcx; sub %rax, %rcx; mov here(%rip), %rdx; incq here(%rip); pushfq; cli; sti; cli; popfq; mov %cs, %esi; ret; .balign 8; here: .quad 100");

int main(void)
{
	static const u64 vas[] = { 0x0000000080000000, 0x0000004000000000, 0x00007fffffffc000, 0xffff888000000000, 0xffffc90000001000, 0xffffffffa0000000 };
	u64 *root = new_root();
	u64 phys = low(code) & ~4095ul, off = low(code) & 4095;

	use(root);
	for (u32 i = 0; i < sizeof vas / sizeof *vas; i++)
		for (u64 p = 0; p < 2; p++)
			map(root, vas[i] + p * 4096, phys + p * 4096, PG_P | PG_W);
	for (int round = 0; round < 3; round++)
		for (u32 i = 0; i < sizeof vas / sizeof *vas; i++) {
			struct try t;

			fresh(&t);
			go0("code", (void *)(vas[i] + off), &t);
			say(" at %016lx: %s return +%lu data %lu cs %lx\n", vas[i], t.r.rax == vas[i] + off ? "right" : "WRONG", t.r.rcx, t.r.rdx,
			    t.r.rsi & 0xffff);
		}
	return 0;
}
