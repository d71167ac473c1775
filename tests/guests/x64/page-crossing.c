/* Instructions that cross a page: RIP-relative ones, with REX, with immediates of eight bytes; the second page is exchanged and is taken away, the fault is at
 * the instruction with CR2 in the second page (SDM 3, 6.15, #PF). */
#include "../lib64/rt.h"

#define VA 0xffffc90000000000ul
CODE(rip_load, "mov 64(%rip), %rax; ret");
CODE(movabs, "movabs $0x1122334455667788, %rax; ret");
CODE(rip_store, "movl $0x12345678, 64(%rip); ret");
CODE(smsw_, "smsw 64(%rip); ret");
CODE(sgdt_, "nop; sgdt 64(%rip); ret");

int main(void)
{
	static const struct { const char *name; const char *code, *end; u32 length; } all[] = {
		{ "rip load", rip_load, rip_load_end, 7 }, { "movabs", movabs, movabs_end, 10 }, { "rip store", rip_store, rip_store_end, 10 },
		{ "smsw", smsw_, smsw__end, 7 }, { "sgdt", sgdt_, sgdt__end, 8 },
	};
	u64 *root = new_root();
	u8 *first = page(), *second = page(), *other = page();

	map(root, VA, low(first), PG_P | PG_W);
	map(root, VA + 4096, low(second), PG_P | PG_W);
	use(root);
	for (u32 i = 0; i < sizeof all / sizeof *all; i++)
		for (u32 before = 1; before < all[i].length; before++) {
			u8 *at = (u8 *)VA + 4096 - before;
			struct try t;

			for (u32 b = 0; b < 200; b++)
				second[b] = other[b] = 0x40 + b % 64;
			memcpy(at, all[i].code, (u64)(all[i].end - all[i].code));
			memcpy(other, second, 4096);
			say("%s, %u bytes before:", all[i].name, before);
			for (int k = 0; k < 5; k++) {
				*entry(root, VA + 4096, 1) = k == 2 ? 0 : (k == 3 ? low(other) : low(second)) | PG_P | PG_W;
				invlpg(VA + 4096);
				if (k == 3)
					other[all[i].length - before + (all[i].code == movabs ? 0 : 64) - (all[i].code == movabs)] ^= 1;
				fresh(&t);
				t.r.rax = 0;
				if (try0(&t, at))
					say(" %s +%lu %s", vector_name(t.vector), t.rip - (u64)at, t.cr2 == VA + 4096 ? "cr2" : "-");
				else if (all[i].code == rip_store)
					say(" %x", *(u32 *)(at + 74));
				else if (all[i].code == smsw_ || all[i].code == sgdt_)
					say(" %x", *(u16 *)(at + all[i].length + 64));
				else
					say(" %lx", t.r.rax);
			}
			say("\n");
		}
	return 0;
}
