/* Segments that expand down, of 16 and of 32 bits, as data and as stacks; code segments read as data; the ends of segments for accesses of each
 * size, far pointers included (SDM 3, 5.3 and 5.4). */
#include "lib/rt.h"

enum { DOWN16 = 0x38, DOWN32 = 0x40, XCODE = 0x48, RDATA = 0x50, SMALL = 0x58, DOWN16_S = 0x60, DOWN32_G = 0x68, ODD = 0x70 };

#define ACCESS(name, sel, op) CODE(name, "mov $" #sel ", %ecx; mov %ecx, %gs; xor %eax, %eax; " op)
/* Base 0x200000, limit 0xfff. */
ACCESS(down16_low, 0x38, "mov %gs:0xfff, %al");
ACCESS(down16_first, 0x38, "mov %gs:0x1000, %al");
ACCESS(down16_edge, 0x38, "mov %gs:0xfff, %ax");
ACCESS(down16_last, 0x38, "mov %gs:0xffff, %al");
ACCESS(down16_last2, 0x38, "mov %gs:0xffff, %ax");
ACCESS(down16_last4, 0x38, "mov %gs:0xfffc, %eax; mov %eax, %gs:0xfffd");
ACCESS(down16_above, 0x38, "mov %gs:0x10000, %al");
ACCESS(down32_low, 0x40, "mov %gs:0xffe, %ax");
ACCESS(down32_first, 0x40, "movl $0x99887766, %gs:0x1000; mov %gs:0x1000, %eax");
ACCESS(down32_above, 0x40, "movb $0x77, %gs:0x10000; mov %gs:0x10000, %al");
ACCESS(down32_wrap, 0x40, "mov %gs:0xfffffffe, %eax");
ACCESS(down32g_low, 0x68, "mov %gs:0x1fff, %al");
ACCESS(down32g_first, 0x68, "mov %gs:0x2000, %al");
ACCESS(execute_only, 0x48, "mov %gs:0, %al");
ACCESS(read_only, 0x50, "mov %gs:0, %al; mov %al, %gs:0");
ACCESS(read_only_rmw, 0x50, "addb $1, %gs:0");
ACCESS(read_only_cmp, 0x50, "cmpb $1, %gs:0");
ACCESS(code_read, 0x08, "mov %gs:gdt, %al; mov %al, %gs:gdt");
ACCESS(small_bytes, 0x58, "mov %gs:0x1f, %al; mov %gs:0x20, %al");
ACCESS(small_words, 0x58, "mov %gs:0x1e, %ax; mov %gs:0x1f, %ax");
ACCESS(small_longs, 0x58, "mov %gs:0x1c, %eax; mov %gs:0x1d, %eax");
ACCESS(small_far, 0x58, "lfs %gs:0x1a, %eax; lfs %gs:0x1b, %eax");
ACCESS(small_far16, 0x58, "lfsw %gs:0x1c, %ax; lfsw %gs:0x1d, %ax");
ACCESS(small_cx8, 0x58, "cmpxchg8b %gs:0x18; cmpxchg8b %gs:0x19");
ACCESS(small_gdt, 0x58, "sgdtl %gs:0x1a; sgdtl %gs:0x1b");
ACCESS(small_bt, 0x58, "mov $0xff, %eax; bt %eax, %gs:0; inc %eax; bt %eax, %gs:0");
ACCESS(small_bt_back, 0x58, "mov $-32, %eax; bt %eax, %gs:4; dec %eax; bt %eax, %gs:0");
ACCESS(small_string, 0x58, "mov $0x1e, %esi; mov $2, %ecx; cld; rep lodsb %gs:(%esi); lodsb %gs:(%esi)");
ACCESS(small_xlat, 0x58, "mov $0x10, %ebx; mov $0xf, %al; xlat %gs:(%ebx); mov $0x10, %al; xlat %gs:(%ebx)");
ACCESS(small_bound, 0x58, "movl $0, %gs:0x18; movl $9, %gs:0x1c; mov $4, %eax; bound %eax, %gs:0x18; bound %eax, %gs:0x19");
ACCESS(null_read, 0, "mov %gs:0, %al");
ACCESS(null_write, 3, "movb $0, %gs:0");
ACCESS(odd_base, 0x70, "movl $0x44332211, %gs:0x7d; mov %gs:0x7d, %eax; mov %gs:0x7e, %eax");
/* Wraps at 4 GiB of linear address, not of offset. */
ACCESS(base_wraps, 0x78, "mov %gs:0x300010, %eax");

u32 own_esp;
#define STACK(name, sel, op) CODE(name, "mov %esp, own_esp; mov %ss, %edi; mov $3 + " #sel ", %ecx; mov %ecx, %ss; " op "; mov %edi, %ss; mov own_esp, %esp")
STACK(stack_down16, 0x60, "mov $0x12340000, %esp; push $0x11223344; mov %esp, %eax; mov $0x1002, %esp; pushw $0x5566; mov %esp, %ebx; popw %dx; popw %dx; mov %esp, %esi");
STACK(stack_down16_full, 0x60, "mov $0x1001, %esp; pushw $0x5566");
STACK(stack_down32, 0x80, "mov $0x1004, %esp; push $0x11223344; mov %esp, %eax");
STACK(stack_down32_full, 0x80, "mov $0x1003, %esp; push $0x11223344");
STACK(stack_down32_call, 0x80, "mov $0x1000, %esp; call 1f; 1:");
STACK(stack_small, 0x88, "mov $0x20, %esp; pushal; mov %esp, %eax; pushw $1");
STACK(stack_small_above, 0x88, "mov $0x1e, %esp; pop %eax");
STACK(stack_enter16, 0x60, "mov $0xabcd2000, %esp; movl $0x9999abcd, %ebp; enter $0x20, $0; mov %esp, %eax; mov %ebp, %ebx; leave; mov %esp, %edx; mov %ebp, %esi");
STACK(stack_enter_deep, 0x60, "mov $0x2000, %esp; mov $0x3000, %ebp; movl $0xaaaa, %ss:0x2ffc; movl $0xbbbb, %ss:0x2ff8; enter $8, $3; mov %esp, %eax; mov %ss:0x1ff8, %ebx; mov %ss:0x1ff4, %edx; mov %ebp, %esi");
STACK(stack_enter_full, 0x60, "mov $0x1008, %esp; mov $0x2000, %ebp; enter $8, $3");
STACK(stack_pusha16, 0x60, "mov $0x100000, %esp; pushal; mov %esp, %eax; mov %ss:0xffec, %ebx; popal; mov %esp, %edx; pushaw; mov %esp, %esi");
STACK(stack_ret, 0x60, "mov $0xfffc, %esp; movl $1f, %ss:0xfffc; ret $8; 1: mov %esp, %eax");
STACK(stack_pop_esp, 0x60, "mov $0x2000, %esp; movl $0x77778888, %ss:0x2000; pop %esp; mov %esp, %eax");
STACK(stack_pop_mem, 0x60, "mov $0x2000, %esp; movl $0x77778888, %ss:0x2000; movl $0, %ss:0x2008; pop %ss:4(%esp); mov %ss:0x2008, %eax; mov %esp, %ebx");
STACK(stack_far, 0x60, "mov $0x2000, %esp; lcall $0x1b, $1f; 1: mov %esp, %eax; mov %ss:0x1ffc, %ebx; add $8, %esp");

static void run(const char *name, const void *code, int (*go)(const char *, const void *, struct try *))
{
	struct try t;

	fresh(&t);
	if (!go(name, code, &t))
		say(" eax %08x ebx %08x edx %08x esi %08x\n", t.r.eax, t.r.ebx, t.r.edx, t.r.esi);
}
#define RUN(c) run(#c, c, go0)
/* In ring 3, so that a fault has another stack. */
#define RUN3(c) run(#c, c, go3)

int main(void)
{
	gdt[DOWN16 / 8] = descriptor(0x200000, 0xfff, 0x97, 0);
	gdt[DOWN32 / 8] = descriptor(0x200000, 0xfff, 0x97, FLAG_D);
	gdt[DOWN32_G / 8] = descriptor(0x200000, 1, 0x97, FLAG_D | FLAG_G);
	gdt[XCODE / 8] = descriptor(0x200000, 0xfff, 0x99, FLAG_D);
	gdt[RDATA / 8] = descriptor(0x200000, 0xfff, 0x91, FLAG_D);
	gdt[SMALL / 8] = descriptor(0x200000, 0x1f, 0x93, FLAG_D);
	gdt[DOWN16_S / 8] = descriptor(0x200000, 0xfff, 0xf7, 0);
	gdt[0x80 / 8] = descriptor(0x200000, 0xfff, 0xf7, FLAG_D);
	gdt[0x88 / 8] = descriptor(0x200000, 0x1f, 0xf3, FLAG_D);
	gdt[ODD / 8] = descriptor(0x20fff3, 0x80, 0x93, FLAG_D);
	gdt[0x78 / 8] = descriptor(0xfff00000, 0xfffff, 0x93, FLAG_D | FLAG_G);
	memset((void *)0x1ff000, 0x5a, 0x13000);
	for (int i = 0; i < 0x20; i++)
		*(u8 *)(0x200000 + i) = i + 1;
	*(u16 *)0x20001e = 0x10;
	RUN(down16_low); RUN(down16_first); RUN(down16_edge); RUN(down16_last); RUN(down16_last2); RUN(down16_last4); RUN(down16_above);
	RUN(down32_low); RUN(down32_first); RUN(down32_above); RUN(down32g_low); RUN(down32g_first);
	RUN(execute_only); RUN(read_only); RUN(read_only_rmw); RUN(read_only_cmp); RUN(code_read);
	RUN(small_bytes); RUN(small_words); RUN(small_longs); RUN(small_far); RUN(small_far16); RUN(small_cx8); RUN(small_gdt); RUN(small_bt); RUN(small_bt_back);
	RUN(small_string); RUN(small_xlat); RUN(small_bound); RUN(null_read); RUN(null_write); RUN(odd_base); RUN(base_wraps);
	RUN3(stack_down16); RUN3(stack_down16_full); RUN3(stack_down32); RUN3(stack_down32_full); RUN3(stack_down32_call); RUN3(stack_small); RUN3(stack_small_above);
	RUN3(stack_enter16); RUN3(stack_enter_deep); RUN3(stack_enter_full); RUN3(stack_pusha16); RUN3(stack_ret); RUN3(stack_pop_esp); RUN3(stack_pop_mem); RUN3(stack_far);
	return 0;
}
