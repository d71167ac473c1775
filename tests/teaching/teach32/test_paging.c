/* Two views of the same memory, bits that the CPU sets, protection of the kernel from itself, pages that come and go. */
#include "kernel.h"

static u32 cr0(void) { u32 v; asm volatile("mov %%cr0, %0" : "=r"(v)); return v; }
static void set_cr0(u32 v) { asm volatile("mov %0, %%cr0" : : "r"(v) : "memory"); }

void test_paging(void)
{
	volatile u32 *there = (u32 *)0x300000, *here = high(0x300000);
	u32 *entry = page_entry(kernel_directory, 0x300000, 0);

	test("paging-alias");
	for (u32 i = 0; i < 1024; i++)
		there[i] = i * i;
	u32 sum = 0, wanted = 0;
	for (u32 i = 0; i < 1024; i++)
		sum += here[i], wanted += i * i;
	want("sum", sum, wanted);
	here[5] = 0x55555555;
	want("the other way", there[5], 0x55555555);

	test("paging-marks");
	want("dirty", *entry & (ACCESSED | DIRTY), ACCESSED | DIRTY);
	*entry &= ~(ACCESSED | DIRTY);
	invlpg(0x300000);
	want("none", *entry & (ACCESSED | DIRTY), 0);
	want("read", there[5], 0x55555555);
	want("accessed", *entry & (ACCESSED | DIRTY), ACCESSED);
	there[6] = 1;
	want("dirty again", *entry & (ACCESSED | DIRTY), ACCESSED | DIRTY);

	test("paging-protect");
	*entry &= ~WRITE;
	invlpg(0x300000);
	want("write", TRY("movl $7, 0x300000"), 14);
	want("its error", caught.error, 3);
	want("kept", here[0], 0);
	set_cr0(cr0() & ~0x10000);
	want("write without WP", TRY("movl $7, 0x300000"), ~0u);
	set_cr0(cr0() | 0x10000);
	want("write with WP again", TRY("movl $8, 0x300000"), 14);
	want("written", here[0], 7);
	*entry |= WRITE;
	invlpg(0x300000);

	test("paging-remap");
	/* One address over 64 pages, each told by INVLPG. */
	u32 pages[64], wrong = 0;
	for (u32 i = 0; i < 64; i++) {
		pages[i] = page_new();
		*(u32 *)high(pages[i]) = i ^ 0x1234;
	}
	for (u32 round = 0; round < 4; round++)
		for (u32 i = 0; i < 64; i++) {
			*page_entry(kernel_directory, 0x30000000, 1) = pages[i] | PRESENT | WRITE;
			invlpg(0x30000000);
			wrong += *(volatile u32 *)0x30000000 != ((i ^ 0x1234) + round);
			++*(volatile u32 *)0x30000000;
		}
	want("wrong pages", wrong, 0);
	*page_entry(kernel_directory, 0x30000000, 0) = 0;
	invlpg(0x30000000);
	want("gone", TRY("mov 0x30000000, %%eax"), 14);
	page_free(kernel_directory[0x30000000 >> 22] & ~0xfff);
	kernel_directory[0x30000000 >> 22] = 0;
	for (u32 i = 0; i < 64; i++)
		page_free(pages[i]);

	test("paging-large");
	kernel_directory[0x31000000 >> 22] = 0 | PRESENT | WRITE | LARGE;
	kernel_directory[0x31400000 >> 22] = 0 | PRESENT | LARGE;
	*(volatile u32 *)0x31300008 = 0xabcdef;
	want("seen", here[2], 0xabcdef);
	want("read-only", TRY("movl $1, 0x31700008"), 14);
	want("its error", caught.error, 3);
	want("kernel by a third name", *(volatile u32 *)(0x31000000 + low(&wanted) - 0), wanted);
	kernel_directory[0x31000000 >> 22] = kernel_directory[0x31400000 >> 22] = 0;
	write_cr3(read_cr3());
	want("gone", TRY("mov 0x31300008, %%eax"), 14);

	test("paging-off");
	/* Off and on again, from the low map; without paging the high stack is not there. */
	u32 seen;
	asm volatile("mov %%esp, %%edi; mov %%cr0, %%eax; mov $1f - %c2, %%edx; jmp *%%edx\n"
		"1: mov %%eax, %%ecx; and $0x7fffffff, %%ecx; sub %2, %%esp; mov %%ecx, %%cr0\n"
		"push $0x600d; pop %0; mov 0x300008, %%esi; mov %%eax, %%cr0; mov %%edi, %%esp; mov $2f, %%edx; jmp *%%edx\n2:"
		: "=&b"(seen), "=&S"(sum) : "i"(BASE) : "eax", "ecx", "edx", "edi", "memory");
	want("pushed", seen, 0x600d);
	want("read", sum, 0xabcdef);
}
