/* The guest maps each 4 MiB of the top 4 GiB in turn, and runs and patches code there, then all that is left at once: whatever a VMM keeps in a hole near
 * the kernel moves away, and with no hole left the kernel runs all the same (address-space compression). */
#include "../lib64/rt.h"

#define BASE 0xffffffff00000000ul
CODE(sensitive, "mov $20, %esi; 1: sti; pushfq; pop %rax; cli; pushfq; pop %rdx; mov %cs, %ecx; push %rdx; popfq; mov (%rbx), %r8; dec %esi; jnz 1b");
static u64 *root, bad;

/* The kernel's own code and code in the window, both with sensitive instructions. */
static void run(u64 va, u64 value)
{
	for (int here = 0; here < 2; here++) {
		struct try t;

		*(volatile u64 *)va = value;
		fresh(&t);
		t.r.rbx = va;
		if (try0(&t, here ? (void *)(va + 0x200) : sensitive) || t.r.r8 != value || !(t.r.rax & F_IF) || t.r.rdx & F_IF ||
		    (t.r.rcx & 0xffff) != SEL_KCODE) {
			bad++;
			say("%lx: %s rax %lx rdx %lx\n", va, vector_name(t.vector), t.r.rax, t.r.rdx);
		}
	}
}

static int kernel(u64 va)
{
	return va >= KBASE && va < KBASE + (64 << 20);
}

int main(void)
{
	u8 *target = page();

	pic_init();
	memcpy(target + 0x200, sensitive, (u64)(sensitive_end - sensitive));
	/* A PDPT of its own for the top slot, so that the runtime's stays as it is. */
	root = new_root();
	u64 *pdpt = page();

	memcpy(pdpt, virt(boot_pml4[511] & PG_ADDRESS), 4096);
	u64 *pd = memcpy(page(), boot_pd, 4096);

	pdpt[510] = low(pd) | PG_P | PG_W;
	root[511] = low(pdpt) | PG_P | PG_W;
	use(root);
	for (u32 i = 0; i < 1024; i++) {
		u64 va = BASE + ((u64)i << 22) + ((i & 1) << 21) + (i % 512 << 12);

		if (kernel(va))
			continue;
		map(root, va, low(target), PG_P | PG_W);
		run(va, i);
		*entry(root, va, 2) = 0;
		invlpg(va);
	}
	check("each in turn", bad == 0);
	memcpy(virt(32 << 20), target, 4096);
	for (u32 i = 0; i < 2048; i++) {
		u64 va = BASE + ((u64)i << 21);

		if (!kernel(va))
			*entry(root, va, 2) = 32 << 20 | PG_P | PG_W | PG_PS;
		if (i % 64 == 63)
			run(va, i);
	}
	for (u32 i = 0; i < 2048; i += 37)
		if (!kernel(BASE + ((u64)i << 21)))
			run(BASE + ((u64)i << 21), i);
	check("all at once", bad == 0);
	/* A hole appears again. */
	for (u32 i = 800; i < 900; i++)
		*entry(root, BASE + ((u64)i << 21), 2) = 0;
	use(root);
	run(BASE, 7);
	check("with a hole again", bad == 0);
	return 0;
}
