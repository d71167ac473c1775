/* Vector stores to page tables in use, to descriptors and to code, through one page or two, in both rings, with and without a fault: memory, and what
 * follows from it, is as if the kernel had used MOV (SDM 2, MOVUPS, MASKMOVDQU; SDM 3, 4.10). */
#include "../lib64/rt.h"

CODE(read_it, "mov (%rbx), %rax");
CODE(store, "movups %xmm0, (%rbx)");
CODE(own, "movups own(%rip), %xmm0; movups %xmm0, (%rbx)");
CODE(body, "mov $0x11111111, %eax; mov $0x22222222, %ecx; mov $0x33333333, %edx; nop; nop; nop");
CODE(stepped, "pushfq; orl $0x100, (%rsp); popfq; movups %xmm0, (%rbx); movups (%rbx), %xmm1; pushfq; andl $~0x100, (%rsp); popfq");

static const u64 va = 0x00007f1234500000, alias = 0xffffc90000000000;
static u64 *root;
static u64 pair[2] __attribute__((aligned(16))), mask[2] __attribute__((aligned(16)));

static void load(u64 a, u64 b)
{
	pair[0] = a;
	pair[1] = b;
	asm volatile("movaps %0, %%xmm0" : : "m"(pair) : "memory");
}

static void put(void *to, u64 a, u64 b)
{
	load(a, b);
	asm volatile("movups %%xmm0, (%0)" : : "r"(to) : "memory");
}

static void see(const char *name)
{
	struct try t;

	for (u64 i = 0; i < 4; i++)
		invlpg(va + (i << 12));
	say("%s:", name);
	for (u64 i = 0; i < 4; i++) {
		fresh(&t);
		t.r.rbx = va + (i << 12);
		if (!(i & 1 ? try3 : try0)(&t, read_it))
			say(" %lx", t.r.rax);
		else
			say(" %s %02lx", vector_name(t.vector), t.error);
	}
	say("\n");
}

static u64 debugs[8];
static u32 count;
static void debug(struct frame *f)
{
	if (count < 8)
		debugs[count++] = f->rip - (u64)stepped;
}

int main(void)
{
	struct try t;
	u64 *data[4], to[4];

	write_cr0(read_cr0() | CR0_MP | CR0_WP);
	write_cr4(read_cr4() | CR4_OSFXSR);
	root = new_root();
	for (u64 i = 0; i < 4; i++) {
		data[i] = page();
		*data[i] = 0x1111 * (i + 1);
		to[i] = low(data[i]) | PG_P | PG_W | PG_U;
		map(root, va + (i << 12), low(data[i]), PG_P | PG_W | PG_U);
	}
	u64 *const table = entry(root, va, 1);
	u64 *const other = page();
	use(root);
	see("mapped");
	put(table, to[2], to[3]);
	see("two entries");
	put(table + 1, 0, to[0]);
	see("one absent");
	for (int i = 0; i < 512; i += 2)
		put((u64 *)((u64)table & ~0xffful) + i, 0, 0);
	see("cleared");
	put(table, to[0], to[1]);
	put(table + 2, to[2], to[3]);
	see("as before");
	check("A came", (table[0] & PG_A) && (table[3] & PG_A));
	/* One byte of each entry; the bytes that the mask leaves out are others. */
	mask[0] = 0x8000, mask[1] = 0x8000;
	load(to[3], to[2]);
	asm volatile("movaps %0, %%xmm1; maskmovdqu %%xmm1, %%xmm0" : : "m"(mask), "D"(table) : "memory");
	see("under a mask");
	asm volatile("pushf; popf; movups %0, %%xmm1" : : "m"(*(u64(*)[2])table) : "memory");
	put(table, to[0], to[1]);

	/* A second table, to be written together with the first where they meet in an alias. */
	u64 *const last = (u64 *)((u64)table & ~0xffful) + 511, *const next = entry(root, va + 0x200000, 1);
	u64 *const next_first = (u64 *)((u64)next & ~0xffful);
	u64 at = (va & ~0x1ffffful) + 511 * 4096;

	map(root, alias, low(last) & ~0xffful, PG_P | PG_W | PG_U);
	map(root, alias + 4096, low(next_first), PG_P | PG_W | PG_U);
	map(root, at, low(data[0]), PG_P | PG_W | PG_U);
	map(root, at + 4096, low(data[1]), PG_P | PG_W | PG_U);
	use(root);
	say("%lx %lx\n", *(u64 *)at, *(u64 *)(at + 4096));
	put((void *)(alias + 0xff8), to[2], to[3]);
	invlpg(at);
	invlpg(at + 4096);
	say("%lx %lx\n", *(u64 *)at, *(u64 *)(at + 4096));
	/* … from ring 3 */
	load(to[1], to[0]);
	map(root, 0x00006f0000000000, low(last) & ~0xffful, PG_P | PG_W | PG_U);
	map(root, 0x00006f0000001000, low(next_first), PG_P | PG_W | PG_U);
	use(root);
	fresh(&t);
	t.r.rbx = 0x00006f0000000ff8;
	try3(&t, store);
	invlpg(at);
	invlpg(at + 4096);
	report("store ring 3", &t);
	say("%lx %lx\n", *(u64 *)at, *(u64 *)(at + 4096));
	/* … and with a fault at the second page. */
	u64 kept = *last;
	static const u64 rights[] = { 0, PG_P };

	for (u32 i = 0; i < 2; i++) {
		map(root, alias + 4096, i ? low(other) : 0, rights[i]);
		use(root);
		fresh(&t);
		t.r.rbx = alias + 0xff8;
		load(7, 9);
		go0(i ? "read-only" : "absent", store, &t);
		check(" nothing written", *last == kept);
	}

	/* Descriptors. */
	u64 data_segment = descriptor(0, 0xfffff, ACC_P | ACC_DPL3 | ACC_S | ACC_DATA | ACC_A, FLAG_G | FLAG_D);
	for (u32 i = 0; i < 2; i++) {
		u64 free = (u64)(gdt + SEL_FREE / 8);
		u32 right = 0;

		put((void *)free, data_segment, i ? data_segment : data_segment & ~((u64)ACC_P << 40));
		asm volatile("lar %1, %0" : "+r"(right) : "r"(SEL_FREE + 8));
		say("lar %x\n", right);
		asm volatile("mov %0, %%es" : : "r"(SEL_FREE | 3));
		asm volatile("mov %0, %%es" : : "r"(0));
	}

	/* Code: by its own address and the low one, on the page of the storing instruction too. */
	for (u32 i = 0; i < 3; i++) {
		static u8 bytes[16] __attribute__((aligned(16)));

		memcpy(bytes, body, 16);
		bytes[1] = 0x40 + i;
		bytes[6] = 0x50 + i;
		bytes[11] = 0x60 + i;
		asm volatile("movaps %0, %%xmm0" : : "m"(bytes) : "memory");
		fresh(&t);
		t.r.rbx = i & 1 ? low(body) : (u64)body;
		go0("code", store, &t);
		fresh(&t);
		go0("body", body, &t);
		say(" %lx %lx %lx\n", t.r.rax, t.r.rcx, t.r.rdx);
	}

	/* Code reads itself. */
	static u8 read[16];

	fresh(&t);
	t.r.rbx = (u64)read;
	go0("own", own, &t);
	check(" read", !memcmp(read, own, (u64)(own_end - own)) && own_end - own <= 16);

	/* Stepped. */
	on(1, debug);
	load(to[2], to[3]);
	fresh(&t);
	t.r.rbx = (u64)table;
	go0("stepped", stepped, &t);
	for (u32 i = 0; i < count; i++)
		say(" +%lx", debugs[i]);
	say("\n");
	see("at the end");
	return 0;
}
