/* Vector loads from and stores to addresses without memory: what a load of 8 bytes finds there they find twice, stores go nowhere, and a page of memory
 * next to it gets its part. A fault at the other page comes first. */
#include "../lib64/rt.h"

CODE(store, "movups %xmm0, (%rbx)");
CODE(load, "movups (%rbx), %xmm1");

static const u64 va = 0x00007f1234500000, hole = 0xd0000000;
static u64 *root;
static u64 pair[2] __attribute__((aligned(16)));

static void get(const char *name, u64 expected)
{
	asm volatile("movaps %%xmm1, %0" : "=m"(pair) : : "memory");
	check(name, pair[0] == expected && pair[1] == expected);
}

int main(void)
{
	struct try t;
	u64 *memory = page();

	write_cr0(read_cr0() | CR0_MP);
	write_cr4(read_cr4() | CR4_OSFXSR);
	root = new_root();
	map(root, va, low(memory), PG_P | PG_W | PG_U);
	map(root, va + 0x1000, hole, PG_P | PG_W | PG_U);
	map(root, va + 0x2000, hole + 0x5000, PG_P | PG_W | PG_U);
	map(root, va + 0x4000, low(memory), PG_P | PG_W | PG_U);
	use(root);
	u64 open = *(volatile u64 *)(va + 0x1000);

	check("all bytes alike", open == (open & 0xff) * 0x0101010101010101ul);
	for (int ring = 0; ring < 4; ring += 3) {
		static const u64 offsets[] = { 0x1000, 0x1ff0, 0x1123, 0x1ff9, 0x2ff0 };

		say("ring %d\n", ring);
		for (u32 i = 0; i < sizeof offsets / sizeof *offsets; i++) {
			pair[0] = 0x1122334455667788;
			pair[1] = ~pair[0];
			asm volatile("movaps %0, %%xmm0; movaps %0, %%xmm1" : : "m"(pair) : "memory");
			fresh(&t);
			t.r.rbx = va + offsets[i];
			(ring ? go3 : go0)("store", store, &t);
			fresh(&t);
			t.r.rbx = va + offsets[i];
			(ring ? go3 : go0)("load", load, &t);
			get(" as a load of 8 bytes", open);
		}
		/* Half memory, half not. */
		memory[511] = memory[0] = 0x5555;
		fresh(&t);
		t.r.rbx = va + 0xff8;
		(ring ? go3 : go0)("across", store, &t);
		say(" %lx %lx\n", memory[511], memory[0]);
		fresh(&t);
		t.r.rbx = va + 0xff8;
		(ring ? go3 : go0)("across", load, &t);
		asm volatile("movaps %%xmm1, %0" : "=m"(pair) : : "memory");
		say(" %lx\n", pair[0]);
		check(" and the hole", pair[1] == open);
		/* Half not, and half nothing, or memory. */
		fresh(&t);
		t.r.rbx = va + 0x2ff8;
		(ring ? go3 : go0)("absent", store, &t);
		fresh(&t);
		t.r.rbx = va + 0x2ff8;
		(ring ? go3 : go0)("absent", load, &t);
		map(root, va + 0x3000, low(memory), PG_P | PG_W | PG_U);
		use(root);
		pair[0] = 0x0123456789abcdef;
		pair[1] = 0xfedcba9876543210;
		asm volatile("movaps %0, %%xmm0" : : "m"(pair) : "memory");
		fresh(&t);
		t.r.rbx = va + 0x2ff9;
		(ring ? go3 : go0)("into memory", store, &t);
		say(" %lx %lx\n", memory[0], memory[1]);
		map(root, va + 0x3000, 0, 0);
		use(root);
	}
	return 0;
}
