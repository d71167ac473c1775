// Entry of every micro-guest: multiboot 1 header, stack, segments, then main().
//
// The loader enters _start in flat 32-bit protected mode with paging and interrupts off; everything
// else (GDT, stack, flags) is undefined by the multiboot specification and therefore set here.

	.section .multiboot, "ax"
	.balign 4
	.long 0x1BADB002                // magic
	.long 0                         // flags: nothing wanted, the ELF headers say where to load
	.long -0x1BADB002               // checksum

	.text
	.globl _start
_start:
	cld
	mov $boot_stack_top, %esp
	mov %eax, boot_magic
	mov %ebx, boot_info
	call rt_init
	call main
	push %eax
	call finish

	.bss
	.balign 4096
	.globl boot_stack
boot_stack:
	.skip 16384
	.globl boot_stack_top
boot_stack_top:
	.balign 4
	.globl boot_magic, boot_info
boot_magic:
	.skip 4
boot_info:
	.skip 4
