# A boot program that asks what disks there are: the CMOS memory, as systems of the PC/AT's days do, and INT 13h, which makes the geometries that
# its callers see of the disks' own. Started with three disks: this one, a large one without partitions, and one with a partition by 255 heads.
.equ sectors, 2
.include "boot.inc"

	# CMOS: diskettes, disks, equipment, their types and geometries, their translations.
	mov $cmos, %si
1:	lodsb
	test %al, %al
	jz 2f
	out %al, $0x70
	in $0x71, %al
	xor %ah, %ah
	call hex
	jmp 1b
2:	call line

	mov $0x80, %dl
each:	# Parameters: cylinders and sectors, heads, how many disks.
	mov $0x08, %ah
	xor %di, %di
	push %es
	push %dx
	int $0x13
	jc 1f
	mov %cx, %ax
	call hex
	mov %dx, %ax
	call hex
1:	pop %dx
	# Kind and number of sectors.
	push %dx
	mov $0x15, %ah
	int $0x13
	jc 1f
	mov %dx, %bx
	xor %al, %al
	call hex
	mov %cx, %ax
	call hex
	mov %bx, %ax
	call hex
1:	pop %dx
	pop %es
	# The same with extensions: flags, cylinders, heads, sectors on a track, number of sectors.
	push %dx
	mov $0x48, %ah
	mov $packet, %si
	movw $26, (%si)
	int $0x13
	jc 2f
	mov $packet + 2, %si
	mov $9, %cx
1:	lodsw
	call hex
	loop 1b
2:	pop %dx
	call line
	inc %dx
	cmp $0x83, %dl
	jne each

	# The last sector that cylinders, heads and sectors reach of the second disk can be read.
	mov $0x08, %ah
	mov $0x81, %dl
	xor %di, %di
	push %es
	int $0x13
	pop %es
	mov $0x81, %dl
	mov $0x0201, %ax
	mov $0x8000, %bx
	int $0x13
	sbb %bx, %bx
	call hex
	mov %bx, %ax
	call hex
	call line
	xor %al, %al
	jmp finish

cmos:	.byte 0x10, 0x12, 0x14, 0x19, 0x1a, 0x1b, 0x1c, 0x1d, 0x1e, 0x1f, 0x20, 0x21, 0x22, 0x23, 0x24, 0x25, 0x26, 0x27, 0x28, 0x29, 0x2a, 0x2b, 0x2c
	.byte 0x39, 0
packet:	.space 26
	.org 1536
