/* A 64-bit kernel at the top of memory as courses have it, and its test suite. It ends by switching the machine off, if all is well. */
#include "kernel.h"

void main(void)
{
	console_init(DIRECT + 0xb8000);
	print("teach64\n");
	cpu_init();
	test_cpu();
	test_memory();
	test_self_modifying();
	test_tables();
	test_apic();
	test_ioapic();
	test_pci();
	test_dma();
	test_users();
	if (tests_sum())
		finish(1);
	power_off();
}
