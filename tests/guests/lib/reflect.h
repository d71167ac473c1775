/* What reflect and pae-reflect have in common: the program touches pages; its kernel maps them, sees to the neighbours, or takes pages away again, with INVLPG
 * and by a load of CR3. Error code, CR2, EIP, flags and stack of each fault are summed up. Included once, behind what depends on the kind of paging. */
enum { PAGES = 24, VA_COUNT = 3 };
static const u32 va[VA_COUNT] = { 0x40000000, 0x803f8000, 0xbf7f4000 };
static u8 *target[PAGES];
static u64 odd;
static volatile u32 bad, ticks, nmis, faults, sum, last_cr2, mode, interrupts;

/* Reads, writes and calls each of 24 pages from EBX on, EDI times. */
CODE(touch,
     "xor %esi, %esi; 1: mov %ebx, %edx; mov $24, %ecx; 2: mov %esp, %ebp; mov %edi, %eax; add %ecx, %eax; and $3, %eax; jz 4f; dec %eax; jz 5f; dec %eax; jz 6f;"
     "stc; mov 8(%edx), %eax; jmp 8f; 4: stc; mov %edx, 16(%edx); cmp %edx, 16(%edx); je 8f; inc %esi; jmp 8f; 5: stc; call *%edx; jmp 8f; 6: movl $7, 24(%edx);"
     "8: cmp %esp, %ebp; je 9f; inc %esi; 9: add $4096, %edx; dec %ecx; jnz 2b; mov %edi, %eax; int $0x80; sub $1, %eax; cmp %eax, %edi; je 3f; inc %esi; 3: dec %edi; jnz 1b");
/* The same with a copy that crosses from page to page. */
CODE(copy, "xor %edx, %edx; mov %edi, %ebp; 1: cld; lea 100(%ebx), %esi; lea 0x9000(%ebx), %edi; mov $5000, %ecx; rep movsl; test %ecx, %ecx; jz 2f; inc %edx; 2: mov %ebp, %eax; int $0x80; dec %ebp; jnz 1b; mov %edx, %esi");

static void mix(u32 v)
{
	sum = (sum << 7 | sum >> 25) ^ v;
}

static u32 base_of(u32 a)
{
	for (int i = 0; i < VA_COUNT; i++)
		if (a - va[i] < PAGES * 4096u)
			return va[i];
	return 0;
}

static void map(u32 at, u32 n, u32 flags)
{
	int known = LEVELS == 2 || (*entry(at, 3) & PG_P);

	*entry(at, 1) = (u32)target[n] | flags;
	if (!known)
		write_cr3(read_cr3());
}

static void fault(struct frame *f)
{
	u32 cr2 = read_cr2(), base = base_of(cr2), flags = read_flags(), n = (cr2 - base) / 4096;

	if (!(f->cs & 3)) {
		/* The kernel's own, below. */
		f->eip = f->edi;
		last_cr2 = cr2;
		return;
	}
	last_cr2 = cr2;
	faults++;
	if ((flags & (F_IF | F_TF | F_NT)) || (u32)(f + 1) != tss->esp0 || !base || (f->ss & 0xffff) != SEL_UDATA || (f->cs & 0xffff) != SEL_UCODE)
		bad++;
	if (!(f->eflags & F_IF))
		bad++;
	mix(f->error), mix(cr2), mix(f->eip), mix(f->eflags & ~(u32)F_RF), mix(f->esp);
	if (mode == 1 && faults % 5 == 0) {
		/* A fault of the kernel in between changes CR2 (nothing is there). */
		asm volatile("lea 1f, %%edi; mov 0x1001123, %%al; 1:" : : : "eax", "edi");
		if (read_cr2() != 0x1001123)
			bad++;
	}
	if (mode == 2 && (f->error & 1) == 0 && faults % 3 == 0) {
		/* First one that is present and forbids. */
		map(cr2, n, PG_P | (f->error & 2 ? PG_U : 0));
		return;
	}
	map(cr2, n, PG_P | PG_W | PG_U | (faults & 1 ? PG_A | PG_D : 0));
	if (f->error & 1)
		invlpg(cr2);
	/* Neighbours, as kernels do it. */
	if (mode == 3)
		for (u32 i = n + 1; i < PAGES && i < n + 4; i++)
			if (!(*entry(base + i * 4096, 1) & PG_P))
				map(base + i * 4096, i, PG_P | PG_U | PG_A);
}

/* Takes pages away, one way or another. */
static void int80(struct frame *f)
{
	u32 base = f->ebx, c = interrupts++;

	f->eax++;
	odd = odd * 6364136223846793005ull + 1442695040888963407ull;
	switch (c % 5) {
	case 0:
	case 1:
		for (u32 i = 0; i < PAGES; i++)
			if (odd >> (i + 20) & 1) {
				/* Anything but P. */
				*entry(base + i * 4096, 1) = (entry_t)(odd * (i + 3)) & ~(entry_t)1;
				invlpg(base + i * 4096);
			}
		break;
	case 2:
	case 4:
		/* Both halves of what a directory entry of 32-bit paging spans. */
		*entry(base, 2) = (entry_t)odd & ~(entry_t)1;
		*entry(base + (PAGES - 1) * 4096, 2) = (entry_t)(odd >> 8) & ~(entry_t)1;
		write_cr3(read_cr3());
		break;
	case 3:
		if (LEVELS == 3)
			*entry(base, 3) = 0;
		else
			*entry(base, 2) = 0;
		write_cr3(read_cr3());
		break;
	}
}

static void tick(struct frame *f)
{
	ticks++;
	if (!(f->eflags & F_IF) || read_cr2() != last_cr2)
		bad++;
	pic_eoi(0);
}

static void nmi(struct frame *f)
{
	(void)f;
	nmis++;
}

static void try_it(const char *name, const void *code, u32 base)
{
	struct try t;

	faults = sum = interrupts = 0;
	odd = 0;
	fresh(&t);
	t.r.eflags = F_IF | 2;
	t.r.edi = 40;
	t.r.ebx = base;
	go3(name, code, &t);
	say(" mode %u at %08x: faults %u bad %u sum %x differences %x\n", mode, base, faults, bad, sum, t.r.esi);
}

static void all(void)
{
	for (int i = 0; i < VA_COUNT; i++) {
		try_it("touch", touch, va[i]);
		try_it("copy", copy, va[i]);
		for (int n = 0; n < PAGES; n++)
			target[n][0] = 0xc3;
	}
}

int main(void)
{
	on(IRQ_BASE, tick);
	on(0x80, int80);
	on(14, fault);
	on(2, nmi);
	pic_init();
	set_gate(0x80, stub(0x80), GATE_INT | GATE_DPL3);
	for (int i = 0; i < PAGES; i++) {
		target[i] = page();
		/* Can be called, read and written. */
		target[i][0] = 0xc3;
	}
	start();
	/* Beside it is the hole for the kernel's own faults, in a page table of the guest's. */
	*entry(0x1000000, 1) = (u32)page() | PG_P | PG_W;
	last_cr2 = read_cr2();
	for (mode = 0; mode < 4; mode++)
		all();
	mode = 4;
	last(all);
	return 0;
}
