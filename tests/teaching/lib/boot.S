# The boot sector of the 32- and 64-bit systems: loads the rest of itself by INT 13h, goes to flat protected mode and there reads the kernel
# with a disk driver of its own (bootmain.c), as xv6 does.
.equ sectors, 8
.include "boot.inc"

	cli
	# A20, the fast way.
	in $0x92, %al
	or $2, %al
	and $0xfe, %al
	out %al, $0x92
	lgdt gdt_pointer
	mov %cr0, %eax
	or $1, %al
	mov %eax, %cr0
	ljmp $0x08, $flat

.code32
flat:	mov $0x10, %eax
	mov %eax, %ds
	mov %eax, %es
	mov %eax, %fs
	mov %eax, %gs
	mov %eax, %ss
	mov $0x7c00, %esp
	call bootmain
	jmp *%eax

	.balign 8
gdt:	.quad 0
	.quad 0x00cf9a000000ffff
	.quad 0x00cf92000000ffff
gdt_pointer:
	.word . - gdt - 1
	.long gdt
