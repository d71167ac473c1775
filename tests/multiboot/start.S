// The header, and the first instructions: what the loader left in the registers is kept before anything changes it.
	.text
	.globl _start
	.balign 8
#if VERSION == 1
header:	.long 0x1badb002, FLAGS, -(0x1badb002 + FLAGS)
	.long header, header, data_end, bss_end, _start
	.long 0, 800, 600, 32
#else
header:	.long 0xe85250d6, 0, header_end - header, -(0xe85250d6 + (header_end - header))
	.balign 8
	.short 1, 0		// information request: memory, map
	.long 16, 4, 6
#ifdef ADDRESSES
	.balign 8
	.short 2, 0
	.long 24, header, header, 0, bss_end
	.balign 8
	.short 3, 0
	.long 12, _start
#endif
#ifdef VIDEO
	.balign 8
	.short 5, 0
	.long 20, 800, 600, 32
#endif
	.balign 8
	.short 6, 0		// modules on page boundaries
	.long 8
	.balign 8
	.short 12345, 1		// nobody knows this one, and it is optional
	.long 8
	.balign 8
	.short 0, 0
	.long 8
header_end:
#endif

_start:	movl %eax, at_entry
	movl %ebx, at_entry + 4
	movl $stack_end, %esp
	pushfl
	popl at_entry + 8
	movl %cr0, %eax
	movl %eax, at_entry + 12
	cld
	call kernel
	movl %eax, %ecx
	movl $0x501, %edx
	movl %ecx, %eax
	outl %eax, %dx
1:	cli
	hlt
	jmp 1b

	.data
	.globl at_entry
at_entry:
	.long 0, 0, 0, 0
	.bss
	.balign 16
	.space 16384
stack_end:
