/* Bytes that are no instruction, and no IDT. */
#include "../lib/rt.h"

CODE(bytes, ".fill 64, 1, 0xff");

int main(void)
{
	static struct dtr none;

	say("going down\n");
	asm volatile("lidt %0; jmp *%1" : : "m"(none), "r"(bytes));
	return 1;
}
