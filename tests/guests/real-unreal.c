/* Real mode with limits, and once a base, that were loaded in protected mode: what a load keeps and what it changes ("big real mode";
 * SDM 3, 9.9 and 3.4.3). */
#include "lib/real.h"

/* From real mode to protected mode and back, with segments loaded there. */
CODE16(load, "lgdtl %cs:load_gdt16 - load; mov %cr0, %eax; or $1, %al; mov %eax, %cr0; mov $0x10, %bx; mov %bx, %ds; mov %bx, %es;"
	     "mov $0x1f0, %bx; mov %bx, %fs; mov $0x1f8, %bx; mov %bx, %gs; and $~1, %al; mov %eax, %cr0; ljmpw $0x800, $(1f - load); 1: mov %ds, %cx;"
	     "mov %es, %dx; mov %gs, %si; movl $0x220000, %edi; movl $0x12345678, (%edi); movl (%edi), %eax; movb %fs:0x1f, %bl; movb %fs:0x20, %bl; int $0x30;"
	     "load_gdt16: .word 0x1ff; .long gdt");
CODE16(base_changes, "mov $0x2000, %ax; mov %ax, %ds; movl $0x200000, %ebx; movl (%ebx), %ecx; pushw $0x3000; popw %es; movl $0x1f0000, %ebx; movl %es:(%ebx), %edx; mov %ds, %si");
CODE16(short_limit, "movb %fs:0x1f, %al; mov $0x6000, %ax; mov %ax, %fs; movb %fs:0x1f, %al; movb %fs:0x20, %al");
CODE16(short_write, "movb $1, %fs:0");
CODE16(expand_down, "mov $0x7000, %ax; mov %ax, %gs; movb %gs:0x1000, %al; movb %gs:0xfff, %al");
CODE16(expand_down_top, "movb %gs:0xffff, %al; movw %gs:0xffff, %ax");
CODE16(big_strings, "xor %ax, %ax; mov %ax, %ds; mov %ax, %es; movl $0x220000, %esi; movl $0x230000, %edi; movl $3, %ecx; movl $0x11111111, (%esi);"
		    "movl $0x22222222, 4(%esi); cld; addr32 rep movsw; mov -6(%edi), %eax; mov -2(%edi), %dx");
CODE16(stack_is_small, "movl $0x10000, %ebx; movb %ss:(%ebx), %al");
CODE16(big_es_only, "movl $0x10000, %ebx; movb %es:(%ebx), %al; movb %fs:(%ebx), %al");
CODE16(lds_keeps, "jmp 1f; 2: .word 0x10, 0x2345; 1: lds %cs:2b - lds_keeps, %si; movl $0x10000, %ebx; movb (%ebx), %al; mov %ds, %cx");

static void unreal(void)
{
	real_fresh();
	real->pm_ds = SEL_KDATA;
	real->pm_fs = 0x1f0;
	real->pm_gs = 0x1f8;
}
#define UNREAL(c) (unreal(), REAL(c))

int main(void)
{
	real_init();
	gdt[0x1f0 / 8] = descriptor(0x60000, 0x1f, 0x91, 0);
	gdt[0x1f8 / 8] = descriptor(0x70000, 0xfff, 0x97, 0);
	*(u32 *)0x220000 = 0xabcdabcd;
	FRESH_REAL(load);
	say(" eax %08x ecx %04x edx %04x esi %04x\n", real->eax, real->ecx & 0xffff, real->edx & 0xffff, real->esi & 0xffff);
	*(u32 *)0x220000 = 0xabcdabcd;
	UNREAL(base_changes);
	say(" ecx %08x edx %08x\n", real->ecx, real->edx);
	UNREAL(short_limit);
	UNREAL(short_write);
	UNREAL(expand_down);
	UNREAL(expand_down_top);
	UNREAL(big_strings);
	say(" eax %08x ecx %08x edx %04x edi %08x\n", real->eax, real->ecx, real->edx & 0xffff, real->edi);
	UNREAL(stack_is_small);
	UNREAL(big_es_only);
	UNREAL(lds_keeps);
	/* And without. */
	FRESH_REAL(big_es_only);
	return 0;
}
