/* A hot instruction that crosses a page and has a pushf in its middle, to which the guest jumps, too: neither sees the VMM. */
#include "lib/rt.h"

enum { VA = 0x40000000 };
static u8 *first, *second;

static u32 call(u32 at)
{
	u32 value = 0;

	asm volatile("call *%1" : "+a"(value) : "r"(at) : "ecx", "edx", "memory");
	return value & ~(u32)F_ARITH;
}

int main(void)
{
	u32 *root = identity_map(16, PG_P | PG_W), middle = 4096 - 3;

	first = page();
	second = page();
	memcpy(first + middle - 1, "\xb8\x9c\x58\xc3", 4); /* mov $..., %eax; or: pushf; pop %eax; ret */
	memcpy(second, "\x77\xc3", 2);
	first[0] = 0xe9; /* jmp middle */
	*(u32 *)(first + 1) = middle - 5;
	*pte(root, VA) = (u32)first | PG_P | PG_W;
	*pte(root, VA + 4096) = (u32)second | PG_P | PG_W;
	paging_on(root, CR0_WP);
	for (u32 round = 0; round < 3; round++) {
		u32 value = 0;

		for (u32 i = 0; i < 40; i++)
			value |= call(VA);
		say("middle %08x\n", value);
		for (u32 i = 0; i < 40; i++)
			value = call(VA + middle - 1);
		say("whole %08x\n", value);
	}
	return 0;
}
