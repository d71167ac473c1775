/* Pages of 2 MiB and 1 GiB: where they lead, rights, from one size to another and back, code run from them (SDM 3, 4.5). */
#include "../lib64/rt.h"

CODE(tag, "mov $0x600d, %eax; pushfq; pop %rbx; mov %cs, %ecx");

int main(void)
{
	static const u64 vas[] = { 0x00000080c0000000, 0x00007f1240000000, 0xffffc90000000000, 0xffffffff40000000 };
	u64 *root = new_root();
	struct try t;

	use(root);
	for (u64 mib = 16; mib < 48; mib += 2)
		*(u64 *)virt(mib << 20) = 0x1000 + mib;
	for (u32 i = 0; i < sizeof vas / sizeof *vas; i++) {
		u64 va = vas[i];

		say("%016lx\n", va);
		*entry(root, va, 3) = PG_P | PG_W | PG_PS;
		for (u64 mib = 16; mib < 48; mib += 10)
			say(" 1 GiB +%lu: %lx\n", mib, *(volatile u64 *)(va + (mib << 20)));
		*(volatile u64 *)(va + (18 << 20) + 8) = 0x77 + i;
		say(" seen below: %lx A %lu D %lu\n", *(u64 *)virt((18 << 20) + 8), *entry(root, va, 3) >> 5 & 1, *entry(root, va, 3) >> 6 & 1);
		memcpy(virt(40 << 20), tag, (u64)(tag_end - tag));
		fresh(&t);
		go0(" code in 1 GiB", (void *)(va + (40 << 20)), &t);
		say("  %lx rflags %lx cs %lx\n", t.r.rax, t.r.rbx & ~(u64)F_ARITH, t.r.rcx & 0xffff);
		*entry(root, va, 3) = 0;
		use(root);
		for (u64 mib = 0; mib < 8; mib += 2)
			*entry(root, va + (mib << 20), 2) = (46 - mib) << 20 | PG_P | PG_W | PG_U | PG_PS;
		use(root);
		for (u64 mib = 0; mib < 8; mib += 2)
			say(" 2 MiB +%lu: %lx\n", mib, *(volatile u64 *)(va + (mib << 20)));
		go0(" code in 2 MiB", (void *)(va + (6 << 20)), 0);
		memcpy((void *)(va + (2 << 20) + 0x1000), tag, (u64)(tag_end - tag));
		go0(" code written through it", (void *)(va + (2 << 20) + 0x1000), 0);
		say(" A %lu D %lu\n", *entry(root, va + (2 << 20), 2) >> 5 & 1, *entry(root, va + (2 << 20), 2) >> 6 & 1);
		/* 4 KiB inside, then 2 MiB again. */
		*entry(root, va, 2) = 0;
		map(root, va + 0x5000, 22 << 20, PG_P | PG_W);
		use(root);
		say(" 4 KiB: %lx\n", *(volatile u64 *)(va + 0x5000));
		*entry(root, va, 2) = 24 << 20 | PG_P | PG_PS;
		use(root);
		say(" 2 MiB again: %lx\n", *(volatile u64 *)va);
		for (u64 mib = 0; mib < 8; mib += 2)
			*entry(root, va + (mib << 20), 2) = 0;
		use(root);
	}
	return 0;
}
