/* A 32-bit kernel at 3 GiB as courses have it, and its test suite. */
#include "kernel.h"

void main(void)
{
	console_init(BASE + 0xb8000);
	print("teach32\n");
	gdt_init();
	idt_init();
	paging_init();
	pic_init();
	print("memory: %u pages\n", pages_free());

	test_segments();
	test_traps();
	test_timer();
	test_disks();
	test_keyboard();
	test_paging();
	test_users();
	test_tasks();
	test_v86();
	test_stacks();
	test_self_modifying();
	test_storm();
	test_locks();
	finish(tests_sum() ? 1 : 42);
}
