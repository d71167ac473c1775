# A boot program that does what it is told on COM1: r reads sector 100 of its disk, w writes it, q ends. It prints the BIOS's status of each.
.equ sectors, 1
.include "boot.inc"

	mov $ready, %si
	call say
next:	mov $(COM1 + 5), %dx
	in %dx, %al
	test $1, %al
	jz next
	mov $COM1, %dx
	in %dx, %al
	mov $0x4200, %bx
	mov $read, %si
	cmp $'r', %al
	je 1f
	mov $0x4300, %bx
	mov $write, %si
	cmp $'w', %al
	je 1f
	cmp $'q', %al
	jne next
	xor %al, %al
	jmp finish
1:	call say
	mov %bx, %ax
	mov $packet, %si
	# The BIOS leaves there how many sectors it has transferred.
	movw $1, 2(%si)
	mov drive, %dl
	int $0x13
	mov %ah, %al
	xor %ah, %ah
	call hex
	call line
	jmp next

ready:	.asciz "ready\n"
read:	.asciz "read "
write:	.asciz "write "
	.balign 4
packet:	.byte 16, 0
	.word 1
	.word 0x9000, 0
	.quad 100
	.org 1024
