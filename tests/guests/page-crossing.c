/* Plain and sensitive instructions across a page boundary, with the second page swapped, absent, or not yet executable for the VMM. */
#include "lib/rt.h"

enum { VA = 0x40000000 };
static u32 *pd;
static u8 *first, *second, *other;

/* Put `n` bytes so that `before` of them are on the first page, a ret behind them. */
static void place(const char *bytes, u32 n, u32 before)
{
	memset(first + 4096 - 16, 0x90, 16);
	memset(second, 0xf4, 16);
	memset(other, 0xf4, 16);
	memcpy(first + 4096 - before, bytes, before);
	memcpy(second, bytes + before, n - before);
	second[n - before] = 0xc3;
	memcpy(other, bytes + before, n - before);
	other[n - before - 1] ^= 1; /* another tail: another immediate or register */
	other[n - before] = 0xc3;
}

static void map(u8 *tail, u32 flags)
{
	*pte(pd, VA) = (u32)first | PG_P | PG_W;
	*pte(pd, VA + 4096) = (u32)tail | flags | PG_W;
	invlpg(VA);
	invlpg(VA + 4096);
}

static void run(const char *name, u32 before)
{
	struct try t;

	asm volatile("cpuid" : : "a"(0) : "ebx", "ecx", "edx", "memory"); /* serialise: the tail was written at another address */
	fresh(&t);
	go0(name, (void *)(VA + 4096 - before), &t);
	say(" eax %08x ecx %08x edx %08x\n", t.r.eax, t.r.ecx, t.r.edx);
}

static void all(const char *name, const char *bytes, u32 n)
{
	for (u32 before = 1; before < n; before++) {
		place(bytes, n, before);
		map(second, PG_P);
		run(name, before);
		run(" again", before);
		map(other, PG_P);
		run(" other tail", before);
		map(second, 0);
		run(" no tail", before);
		map(second, PG_P);
		run(" back", before);
		second[n - before - 1] ^= 1;
		run(" tail written", before);
	}
}

int main(void)
{
	pd = identity_map(16, PG_P | PG_W);
	first = page();
	second = page();
	other = page();
	paging_on(pd, CR0_WP);
	all("mov imm", "\xb8\x44\x33\x22\x11", 5);
	all("mov cs", "\x8c\xc8", 2);
	all("str", "\x0f\x00\xc9", 3);
	all("mov cr", "\x0f\x20\xc2", 3);
	return 0;
}
