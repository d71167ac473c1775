/* One page, and behind it another in each of two address spaces: an instruction across both has the tail of the current one. */
#include "lib/rt.h"

enum { VA = 0x40000000 };
static const char code[6] = "\xb8\x44\x33\x22\x11\xc3"; /* mov $0x11223344, %eax; ret */
static u8 *first, *second[2];
static u32 *root[2];

static u32 call(u32 at)
{
	u32 value = 0;

	asm volatile("call *%1" : "+a"(value) : "r"(at) : "ecx", "edx", "memory");
	return value;
}

int main(void)
{
	for (u32 before = 1; before < 5; before++) {
		first = page();
		memset(first, 0xc3, 16);
		memcpy(first + 4096 - before, code, before);
		for (u32 i = 0; i < 2; i++) {
			second[i] = page();
			memset(second[i], 0xc3, 16);
			memcpy(second[i], code + before, 6 - before);
			second[i][4 - before] ^= i; /* the last byte of the immediate */
			root[i] = identity_map(16, PG_P | PG_W);
			*pte(root[i], VA) = (u32)first | PG_P | PG_W;
			*pte(root[i], VA + 4096) = (u32)second[i] | PG_P | PG_W;
		}
		paging_on(root[1], CR0_WP);
		call(VA);
		call(VA + 4096 + 8); /* both pages of this address space have been executed */
		for (u32 i = 0; i < 6; i++) {
			u32 value;

			write_cr3((u32)root[i & 1]);
			value = call(VA + 4096 - before);
			say("%u in the first page, root %u: %08x\n", before, i & 1, value);
		}
	}
	return 0;
}
