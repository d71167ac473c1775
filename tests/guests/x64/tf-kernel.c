/* TF in the kernel's own code: a trap after each instruction, over those that a VMM patches too (SDM 3, 18.3.1.4). */
#include "../lib64/rt.h"

static u64 start;
u64 cell[4];
static void step(struct frame *f)
{
	say(" +%lu", f->rip - start);
	write_dr6(0xffff0ff0);
}

static void seen(struct frame *f)
{
	say(" [int, TF %lu %lu]", f->rflags >> 8 & 1, read_flags() >> 8 & 1);
}

#define STEP(name, text) CODE(name, "pushfq; orl $0x100, (%rsp); popfq; nop;" text "; pushfq; andl $~0x100, (%rsp); popfq; nop")
#define ALL(X) \
	X(cli_, "cli") X(sti_, "sti; nop; cli") X(pushf_popf, "pushfq; popfq") X(sgdt_, "sgdt cell(%rip)") X(sldt_, "sldt %eax") X(str_, "str %eax") \
	X(smsw_, "smsw %rax") X(lar_, "mov $8, %ecx; lar %ecx, %eax") X(lsl_, "lsl %ecx, %eax") X(verr_, "verr %cx") X(mov_cs, "mov %cs, %eax") X(mov_ds, "mov %ds, %eax; mov %eax, %ds") \
	X(push_fs, "pushq %fs; popq %fs") X(cpuid_, "xor %eax, %eax; cpuid") X(cr0, "mov %cr0, %rax; mov %rax, %cr0") X(clts_, "clts") X(cr3, "mov %cr3, %rax; mov %rax, %cr3") \
	X(dr0, "mov %dr0, %rax; mov %rax, %dr0") X(rdmsr_, "mov $0xc0000100, %ecx; rdmsr; wrmsr") X(in_out, "inb $0x21, %al; outb %al, $0x21") X(invlpg_, "invlpg cell") \
	X(swapgs_, "swapgs; swapgs") X(iret_, "mov %rsp, %rax; pushq $0x10; push %rax; pushfq; push $8; push $1f; iretq; ud2; 1: nop") X(int_40, "int $0x40; nop") \
	X(ret_far, "pushq $8; push $1f; lretq; 1: nop") X(string, "lea cell(%rip), %rdi; stosq") X(rip, "mov cell(%rip), %rax; incq cell(%rip)") X(calls, "call 1f; jmp 2f; 1: ret; 2: nop")
#define X(name, text) STEP(name, text);
ALL(X)
#undef X

int main(void)
{
	pic_init();
	on(1, step);
	on(0x40, seen);
#define X(name, text) start = (u64)name; go0(#name, name, 0);
	ALL(X)
	return 0;
}
