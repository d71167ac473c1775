# A boot program that goes through four serial ports: firmware finds them, INT 14h sends on each, and each interrupts on its line.
.equ sectors, 2
.include "boot.inc"

	# What firmware found: the addresses, and the number among the equipment.
	mov $found, %si
	call say
	mov $0x400, %si
	mov $4, %cx
1:	lodsw
	call hex
	loop 1b
	int $0x11
	and $0x0e00, %ax
	call hex
	call line

	cli
	movw $irq3, 4 * 0x0b
	movw $0, 4 * 0x0b + 2
	movw $irq4, 4 * 0x0c
	movw $0, 4 * 0x0c + 2
	in $0x21, %al
	and $0xe7, %al
	out %al, $0x21
	sti

	xor %bx, %bx
each:	mov %bx, %dx
	mov $0x00e3, %ax	# 9600 8N1
	int $0x14
	mov $text, %si
2:	lodsb
	test %al, %al
	jz 3f
	mov %bx, %dx
	mov $0x01, %ah
	int $0x14
	test $0x80, %ah
	jnz bad
	jmp 2b
3:	mov %bl, %al
	add $'1', %al
	mov %bx, %dx
	mov $0x01, %ah
	int $0x14

	# The transmitter's interrupt: OUT2 lets it through.
	mov %bx, %di
	shl $1, %di
	mov 0x400(%di), %di
	movw $0, vector
	lea 4(%di), %dx
	mov $0x08, %al
	out %al, %dx
	lea 1(%di), %dx
	mov $0x02, %al
	out %al, %dx
	mov %di, %dx
	mov $'\n', %al
	out %al, %dx
	mov 0x46c, %ax
	add $36, %ax
4:	cmpb $0, vector
	jne 5f
	cmp 0x46c, %ax
	jne 4b
5:	lea 1(%di), %dx
	xor %al, %al
	out %al, %dx
	mov $interrupt, %si
	call say
	mov vector, %ax
	call hex
	call line
	inc %bx
	cmp $4, %bx
	jb each
	mov $21, %al
	jmp finish

bad:	mov $wrong, %si
	call say
	mov $1, %al
	jmp finish

# irq3, irq4: keeps the vector, and what UART DI says of its interrupt.
irq3:	push %ax
	mov $0x0b, %al
	jmp 1f
irq4:	push %ax
	mov $0x0c, %al
1:	push %dx
	lea 2(%di), %dx
	mov %al, %ah
	in %dx, %al
	and $0x0f, %al
	# A second request of the same byte's finds nothing to say.
	cmp $1, %al
	je 2f
	mov %ax, vector
2:	mov $0x20, %al
	out %al, $0x20
	pop %dx
	pop %ax
	iret

vector:	.word 0
found:	.asciz "ports: "
text:	.asciz "port "
interrupt: .asciz "interrupt: "
wrong:	.asciz "timeout of INT 14h\n"

	.org 512 + 512 * sectors
