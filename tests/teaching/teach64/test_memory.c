/* Protection, no-execute, marks, large pages taken apart, one address over many pages. */
#include "kernel.h"

#define AT 0xffffb00000000000ul

void test_memory(void)
{
	volatile u32 *here = (u32 *)AT;
	u64 page = page_new();

	test("paging");
	page_map(AT, page | PRESENT);
	want("read", *here, 0);
	want("accessed", *page_entry(AT, 0) & (ACCESSED | DIRTY), ACCESSED);
	want("write", TRY3("movl $7, (%%rax)", AT, 0), 14);
	want("its error", caught.error, 3);
	page_map(AT, page | PRESENT | WRITE);
	*here = 7;
	want("dirty", *page_entry(AT, 0) & (ACCESSED | DIRTY), ACCESSED | DIRTY);
	want("written", *(u32 *)direct(page), 7);

	test("no-execute");
	*(volatile u8 *)here = 0xc3;
	want("allowed", TRY3("call *%%rax", AT, 0), ~0u);
	page_map(AT, page | PRESENT | WRITE | NX);
	want("read", *(volatile u8 *)here, 0xc3);
	want("refused", TRY3("mov %%rsp, %%rcx; jmp *%%rax", AT, 0), 14);
	want("its error", caught.error, 0x11);
	want("its address", read_cr2() == AT, 1);
	want("where", caught.rip == AT, 1);

	test("paging-remap");
	u64 pages[32];
	u32 wrong = 0;
	for (u32 i = 0; i < 32; i++) {
		pages[i] = page_new();
		*(u32 *)direct(pages[i]) = i;
	}
	for (u32 i = 0; i < 200; i++) {
		page_map(AT, pages[i % 32] | PRESENT | WRITE);
		wrong += *here != i % 32;
	}
	want("wrong ones", wrong, 0);

	test("paging-large");
	/* The 2 MiB at 2 MiB in small pages, one of which is another. */
	u64 *large = page_entry(DIRECT + 0x200000, 0);
	u64 whole = *large, table = page_new();
	for (u32 i = 0; i < 512; i++)
		((u64 *)direct(table))[i] = (0x200000 + i * PAGE) | PRESENT | WRITE;
	*(u32 *)direct(0x203000) = 0x12345;
	*(u32 *)direct(0x204000) = 0x54321;
	((u64 *)direct(table))[3] = 0x204000 | PRESENT | WRITE;
	*large = table | PRESENT | WRITE;
	asm volatile("mov %0, %%cr3" : : "r"(read_cr3()) : "memory");
	want("the other", *(volatile u32 *)direct(0x203000), 0x54321);
	want("by the third name", *(volatile u32 *)(BASE + 0x203000), 0x54321);
	*large = whole;
	asm volatile("mov %0, %%cr3" : : "r"(read_cr3()) : "memory");
	want("its own again", *(volatile u32 *)direct(0x203000), 0x12345);
	page_map(AT, 0);
	want("gone", TRY3("mov (%%rax), %%eax", AT, 0), 14);
}
