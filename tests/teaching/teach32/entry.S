# Entered at the physical address, without paging: turns it on with large pages, 4 MiB at 0 and 12 MiB, the same ones first,
# at 3 GiB, and jumps high. The lower one stays: the boot loader's GDT is there until the kernel has its own.
.equ BASE, 0xc0000000

.text
.globl entry
entry:	mov %cr4, %eax
	or $0x10, %eax
	mov %eax, %cr4
	mov $(first_directory - BASE), %eax
	mov %eax, %cr3
	mov %cr0, %eax
	or $0x80010000, %eax
	mov %eax, %cr0
	mov $high, %eax
	jmp *%eax
high:	mov $stack_top, %esp
	xor %ebp, %ebp
	push %ebp
	popf
	call main
1:	hlt
	jmp 1b

# switch_context(struct context **save, struct context *to): what C keeps across calls goes to the old stack and comes from the new one.
.globl switch_context
switch_context:
	mov 4(%esp), %eax
	mov 8(%esp), %edx
	push %ebp
	push %ebx
	push %esi
	push %edi
	mov %esp, (%eax)
	mov %edx, %esp
	pop %edi
	pop %esi
	pop %ebx
	pop %ebp
	ret

# The user program, a flat binary for 0x08048000.
.section .rodata
.globl user_image, user_image_end
	.balign 4
user_image:
	.incbin "user.bin"
user_image_end:

.data
	.balign 4096
first_directory:
	.long 0x83
	.fill 767, 4, 0
	.long 0x83, 0x400083, 0x800083
	.fill 253, 4, 0

.bss
	.balign 4096
	.space 8192
.globl stack_top
stack_top:
