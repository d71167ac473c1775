/* A 16-bit system from a diskette, and its test suite. */
#include "kernel.h"

asm(".section .start, \"ax\"\n.globl _start\n_start: mov %cs, %ax\nmov %ax, %ds\nmov %ax, %es\ncli\nmov %ax, %ss\nmov $0xfff0, %esp\nsti\ncld\nmovb %dl, boot_drive\ncalll main\n.text\n");
u8 boot_drive = 0xff;

struct registers *call_registers;
/* INT n by an instruction that is written each time; it is in the segment of the data, too. */
void call_int(void);
asm(".text\ncall_int: pushal\npushl %ebp\nmovl call_registers, %ebp\nmovl (%ebp), %eax\nmovl 4(%ebp), %ebx\nmovl 8(%ebp), %ecx\nmovl 12(%ebp), %edx\n"
	"movl 16(%ebp), %esi\nmovl 20(%ebp), %edi\npushw 24(%ebp)\npopw %es\n"
	"int_n: int $0\n"
	"movl call_registers, %ebp\nmovl %eax, (%ebp)\nmovl %ebx, 4(%ebp)\nmovl %ecx, 8(%ebp)\nmovl %edx, 12(%ebp)\nmovl %esi, 16(%ebp)\nmovl %edi, 20(%ebp)\n"
	"movw %es, %ax\nmovl %eax, 24(%ebp)\npushfl\npopl 28(%ebp)\npushw %ds\npopw %es\ncld\npopl %ebp\npopal\nretl\n");
extern u8 int_n[];

void interrupt(u8 number, struct registers *r)
{
	call_registers = r;
	int_n[1] = number;
	call_int();
}

void main(void)
{
	struct registers r = { .eax = 0x0003 };

	interrupt(0x10, &r);
	console_init(0);
	print("teach16\n");
	test("boot");
	want("drive", boot_drive, 0);
	u32 cs = 0;
	asm("mov %%cs, %w0" : "+r"(cs));
	want("segment", cs, SEGMENT);
	test_bios();
	test_own_interrupts();
	test_timer();
	test_keyboard();
	test_a20();
	test_modes();
	test_real_mode();
	finish(tests_sum() ? 1 : 42);
}
