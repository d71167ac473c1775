# A boot sector that says so in every way that firmware has for it.
.equ sectors, 1
.include "boot.inc"

	mov $text, %si
	call say
	# INT 10h, teletype, and what it left in text memory.
	mov $0x0003, %ax
	int $0x10
	mov $text, %si
1:	lodsb
	test %al, %al
	jz 2f
	mov $0x0e, %ah
	mov $0x0007, %bx
	int $0x10
	jmp 1b
2:	mov $0xb800, %ax
	mov %ax, %es
	xor %di, %di
	mov $5, %cx
3:	mov %es:(%di), %ax
	call hex
	add $2, %di
	loop 3b
	call line
	# INT 11h and 12h: equipment (the serial port, the mathematics coprocessor), memory.
	int $0x11
	and $0x0202, %ax
	call hex
	int $0x12
	call hex
	call line
	# INT 15h, E820: the first entry.
	xor %ax, %ax
	mov %ax, %es
	xor %ebx, %ebx
	mov $0x0000e820, %eax
	mov $0x534d4150, %edx
	mov $24, %ecx
	mov $map, %di
	int $0x15
	jc 4f
	mov map, %ax
	call hex
	mov map + 10, %ax
	call hex
	mov map + 8, %ax
	call hex
	mov map + 16, %ax
	call hex
4:	call line
	xor %al, %al
	jmp finish

text:	.asciz "hello\n"
map:	.space 24
	.org 1024
