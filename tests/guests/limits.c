/* Segment limits, types and null selectors on use: #GP(0), #SS(0) for the stack segment (SDM 3, 5.3, 5.5). */
#include "lib/rt.h"

CODE(read, "mov %ecx, %fs; mov %fs:(%edx), %eax");
CODE(read_byte, "mov %ecx, %fs; mov %fs:(%edx), %al");
CODE(write, "mov %ecx, %fs; mov %eax, %fs:(%edx)");
/* In ring 3, so that the exception has a stack of its own. */
CODE(stack, "mov %esp, %ebx; mov %ss, %esi; mov %ecx, %ss; mov %edx, %esp; push %eax; mov %esi, %ss; mov %ebx, %esp");
CODE(stack_read, "mov %ss, %esi; mov %ecx, %ss; mov %ss:(%edx), %eax; mov %esi, %ss");
CODE(jump, "ljmp $0x60, $0x100000");

static void show(const char *name, const void *code, u32 selector, u32 at)
{
	struct try t;

	fresh(&t);
	t.r.ecx = selector;
	t.r.edx = at;
	say("%08x ", at);
	(code == stack || code == stack_read ? go3 : go0)(name, code, &t);
}

int main(void)
{
	gdt[7] = descriptor(0, 0xffff, 0x93, FLAG_D);
	gdt[8] = descriptor(0, 0xffff, 0x97, FLAG_D); /* expand down: above 0xffff */
	gdt[9] = descriptor(0, 0xfffff, 0x91, FLAG_G | FLAG_D);
	gdt[10] = descriptor(0, 0xfffff, 0x9b, FLAG_G | FLAG_D);
	gdt[11] = descriptor(0x8000, 0xfff, 0xf3, FLAG_D);
	gdt[12] = descriptor(0, 0xffff, 0x9b, FLAG_D);
	show("read", read, 0x38, 0xfffc);
	show("read", read, 0x38, 0xfffd);
	show("byte", read_byte, 0x38, 0xffff);
	show("byte", read_byte, 0x38, 0x10000);
	show("write", write, 0x38, 0x12345);
	show("expand down", read, 0x40, 0xffff);
	show("expand down", read, 0x40, 0x10000);
	show("expand down", read, 0x40, 0xfffffffe);
	show("write to read-only", write, 0x48, 0x8000);
	show("write to code", write, 0x50, 0x8000);
	show("read code", read, 0x50, 0x8000);
	show("null", read, 0, 0x8000);
	show("stack", stack, 0x5b, 0x1000);
	show("stack", stack, 0x5b, 0x1001);
	show("stack", stack, 0x5b, 0x2000);
	show("stack", stack_read, 0x5b, 0xffc);
	show("stack", stack_read, 0x5b, 0xffd);
	show("jump beyond", jump, 0, 0);
	return 0;
}
