# A boot program that draws in the graphics modes of a VGA, all of their memory, and waits for a key behind each picture.
.equ sectors, 2
.include "boot.inc"

	mov $modes, %si
next:	lodsb
	test %al, %al
	jz done
	push %si
	xor %ah, %ah
	push %ax
	int $0x10
	pop %ax
	mov $0xb800, %bx
	cmp $7, %al
	jb 1f
	mov $0xa000, %bx
1:	mov %bx, %es
	# Each plane, where there are some: the map mask's bits in BL. Elsewhere all planes at once.
	mov $1, %bl
	cmp $0x0d, %al
	je plane
	cmp $0x12, %al
	je plane
	call fill
	jmp shown
plane:	mov $0x3c4, %dx
	mov %al, %bh
	mov $2, %al
	mov %bl, %ah
	out %ax, %dx
	mov %bh, %al
	call fill
	shl %bl
	cmp $0x10, %bl
	jne plane
shown:	push %ax
	mov $text, %si
	call say
	pop %ax
	xor %ah, %ah
	call hex
	call line
	xor %ah, %ah
	int $0x16
	pop %si
	jmp next
done:	mov $3, %ax
	int $0x10
	xor %al, %al
	jmp finish

# fill: what the mode AL shows at ES, with bytes that depend on their address and on BL.
fill:	push %ax
	xor %di, %di
	mov $64000, %cx
	cmp $0x13, %al
	je 1f
	mov $38400, %cx
	cmp $0x12, %al
	je 1f
	mov $8000, %cx
	cmp $0x0d, %al
	je 1f
	mov $16384, %cx
1:	mov %di, %ax
	shr $5, %ax
	add %di, %ax
	mul %bl
	add %bl, %al
	stosb
	loop 1b
	pop %ax
	ret

text:	.asciz "picture "
modes:	.byte 0x13, 0x12, 0x0d, 0x04, 0x06, 0
	.org 1536
