# The boot sector of the diskette: moves its segments to 7C0:0 wherever it was started, loads the kernel sector by sector with retries to a segment
# that is no round number, and writes drive and segment into its own instructions.
.equ SECTORS, 60
.equ SEGMENT, 0x1231

.code16
.text
.globl _start
_start:	ljmp $0x07c0, $start
start:	mov %cs, %ax
	mov %ax, %ds
	cli
	xor %bx, %bx
	mov %bx, %ss
	mov $0x7c00, %sp
	sti
	cld
	# Into the operands of "mov $…, %dl" and of the far jump.
	mov %dl, drive + 1
	movw $SEGMENT, target + 3
	mov $SEGMENT, %ax
	mov %ax, %es
	mov $1, %bp

next:	mov $3, %di
again:	# Sector BP: 18 a track, two heads.
	mov %bp, %ax
	mov $18, %bl
	div %bl
	mov %ah, %cl
	inc %cl
	mov %al, %dh
	and $1, %dh
	shr $1, %al
	mov %al, %ch
	xor %bx, %bx
	mov $0x0201, %ax
drive:	mov $0xee, %dl
	int $0x13
	jnc good
	xor %ah, %ah
	int $0x13
	dec %di
	jnz again
	mov $0x0e21, %ax
	int $0x10
1:	hlt
	jmp 1b
good:	mov %es, %ax
	add $0x20, %ax
	mov %ax, %es
	inc %bp
	cmp $(SECTORS + 1), %bp
	jb next

	# The same place by its other name, and on.
	ljmp $0, $0x7c00 + hop
hop:	mov %cs:0x7c00 + drive + 1, %dl
target:	ljmp $0xffff, $0
	.org 510
	.word 0xaa55
