/* TF over each instruction that the VMM patches: one trap after it, at the address of the next (SDM 3, 18.3.1.4). */
#include "lib/rt.h"

static u32 start;
static void step(struct frame *f)
{
	say(" +%u", f->eip - start);
	write_dr6(0xffff0ff0);
}

static void seen(struct frame *f)
{
	say(" [int, TF %u %u]", f->eflags >> 8 & 1, read_flags() >> 8 & 1);
}

u32 tf_cell[4];
#define STEP(name, text) CODE(name, "pushf; orl $0x100, (%esp); popf; nop;" text "; pushf; andl $~0x100, (%esp); popf; nop")
#define ALL(X) \
	X(cli_, "cli") X(sti_, "sti; nop; cli") X(pushf_popf, "pushf; popf") X(sgdt_, "sgdt tf_cell") X(sldt_, "sldt %eax") \
	X(str_, "str %eax") X(smsw_, "smsw %eax") X(lar_, "mov $8, %ecx; lar %ecx, %eax") X(lsl_, "lsl %ecx, %eax") \
	X(verr_, "verr %cx") X(verw_, "verw %cx") X(push_cs, "push %cs; pop %eax") X(push_ds, "push %ds; pop %ds") \
	X(push_fs, "push %fs; pop %fs") X(mov_sreg, "mov %es, %eax; mov %eax, %es") X(cpuid_, "xor %eax, %eax; cpuid") \
	X(cr0, "mov %cr0, %eax; mov %eax, %cr0") X(clts_, "clts") X(cr2, "mov %cr2, %eax; mov %eax, %cr2") \
	X(dr0, "mov %dr0, %eax; mov %eax, %dr0") X(rdmsr_, "mov $0x174, %ecx; rdmsr; wrmsr") X(in_out, "inb $0x21, %al; outb %al, $0x21") \
	X(invlpg_, "invlpg tf_cell") X(wbinvd_, "wbinvd") X(lldt_, "xor %eax, %eax; lldt %ax") X(arpl_, "arpl %cx, %ax") \
	X(jmp_far, "ljmp $8, $1f; ud2; 1: nop") X(call_far, "lcall $8, $1f; jmp 2f; 1: lret; 2: nop") \
	X(iret_, "pushf; push %cs; push $1f; iret; ud2; 1: nop") X(int_40, "int $0x40; nop")
#define X(name, text) STEP(name, text);
ALL(X)
#undef X

int main(void)
{
	pic_init();
	on(1, step);
	on(0x40, seen);
#define X(name, text) start = (u32)name; say("steps:"); go0(" " #name, name, 0);
	ALL(X)
	return 0;
}
