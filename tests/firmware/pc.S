# A boot program that goes through the machine as kernels of courses do: ticks, A20, PCI, protected mode with its own disk driver, and back.
.equ sectors, 4
.include "boot.inc"

	# The timer's ticks go on.
	mov $ticks, %si
	call say
	mov 0x46c, %ax
	mov $0x0100, %cx
1:	hlt
	cmp 0x46c, %ax
	jne 2f
	loop 1b
	jmp bad
2:	mov $fine, %si
	call say

	# A20: the word at FFFF:0510 is the one at 0:0500 while the gate is closed, by either port.
	mov $a20, %si
	call say
	call wraps
	call hex
	in $0x92, %al
	and $0xfc, %al
	out %al, $0x92
	call wraps
	call hex
	in $0x92, %al
	and $0xfe, %al
	or $2, %al
	out %al, $0x92
	call wraps
	call hex
	mov $0xdd, %bl
	call output_port
	call wraps
	call hex
	mov $0xdf, %bl
	call output_port
	call wraps
	call hex
	call line

	# PCI: mechanism #1, host bridge and ISA bridge.
	mov $pci, %si
	call say
	mov $0x80000000, %eax
	call config
	mov $0x80000800, %eax
	call config
	mov $0x80000900, %eax
	call config
	mov $0x80000b00, %eax
	call config
	call line

	# INT 13h with extensions: the last sector of this program, by its number.
	mov $disk, %si
	call say
	mov $packet, %si
	mov $0x42, %ah
	mov drive, %dl
	int $0x13
	jc bad
	mov 0x9000, %ax
	call hex
	mov 0x91fe, %ax
	call hex
	call line

	# Protected mode, with a driver for the disk; back to real mode with what it read.
	mov $protected, %si
	call say
	cli
	lgdt gdt_pointer
	mov %cr0, %eax
	or $1, %al
	mov %eax, %cr0
	ljmp $0x08, $flat
.code32
flat:	mov $0x10, %eax
	mov %eax, %ds
	mov %eax, %es
	mov %eax, %ss
	mov $0x7c00, %esp
	# Sector 4, by PIO from drive 0.
	mov $0x1f6, %edx
	mov $0xe0, %al
	out %al, %dx
	mov $0x1f2, %edx
	mov $1, %al
	out %al, %dx
	inc %edx
	mov $4, %al
	out %al, %dx
	inc %edx
	xor %al, %al
	out %al, %dx
	inc %edx
	out %al, %dx
	mov $0x1f7, %edx
	mov $0x20, %al
	out %al, %dx
1:	in %dx, %al
	test $0x80, %al
	jnz 1b
	test $0x08, %al
	jz 1b
	mov $0x1f0, %edx
	mov $0x180000, %edi
	mov $256, %ecx
	cld
	rep insw
	mov 0x180000, %ebx
	# Real mode: through a 16-bit segment.
	ljmp $0x18, $narrow
.code16
narrow:	mov $0x20, %ax
	mov %ax, %ds
	mov %ax, %es
	mov %ax, %ss
	mov %cr0, %eax
	and $0xfe, %al
	mov %eax, %cr0
	ljmp $0, $real
real:	xor %ax, %ax
	mov %ax, %ds
	mov %ax, %es
	mov %ax, %ss
	mov $0x7c00, %sp
	sti
	mov %bx, %ax
	call hex
	shr $16, %ebx
	mov %bx, %ax
	call hex
	call line
	mov $42, %al
	jmp finish

bad:	mov $wrong, %si
	call say
	mov $1, %al
	jmp finish

# wraps: AX = 1 if FFFF:0510 is 0:0500.
wraps:	push %es
	mov $0xffff, %ax
	mov %ax, %es
	movw $0x1234, 0x500
	movw $0x4321, %es:0x510
	cmpw $0x4321, 0x500
	sete %al
	movzx %al, %ax
	pop %es
	ret

# output_port: writes BL to the keyboard controller's output port.
output_port:
	call settled
	mov $0xd1, %al
	out %al, $0x64
	call settled
	mov %bl, %al
	out %al, $0x60
settled:
	in $0x64, %al
	test $2, %al
	jnz settled
	ret

# config: prints the register of PCI configuration that EAX addresses.
config:	mov $0xcf8, %dx
	out %eax, %dx
	mov $0xcfc, %dx
	in %dx, %eax
	call hex
	shr $16, %eax
	jmp hex

ticks:	.asciz "ticks "
fine:	.asciz "fine\n"
wrong:	.asciz "wrong\n"
a20:	.asciz "a20 "
pci:	.asciz "pci "
disk:	.asciz "disk "
protected:
	.asciz "protected "

	.balign 4
packet:	.byte 16, 0
	.word 1
	.word 0x9000, 0
	.quad 4

	.balign 8
gdt:	.quad 0
	.quad 0x00cf9a000000ffff
	.quad 0x00cf92000000ffff
	.quad 0x00009a000000ffff
	.quad 0x000092000000ffff
gdt_pointer:
	.word . - gdt - 1
	.long gdt

	# Sector 4 has a mark at each end.
	.org 2048
	.word 0x5a5a, 0x1234
	.org 2558
	.word 0xa5a5
