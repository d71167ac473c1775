# A boot program that resets the machine in every way that a PC has, and counts in the clock's memory how often it has come here.
.equ sectors, 1
.include "boot.inc"

	mov $text, %si
	call say
	mov $0x70, %al
	out %al, $0x70
	in $0x71, %al
	movzx %al, %ax
	call hex
	call line
	mov %al, %bl
	inc %al
	out %al, $0x71
	cmp $1, %bl
	jb port92
	je keyboard
	cmp $3, %bl
	jb control
	je fault
	# The last: power management's ports are where its function says; the type of sleep is 0 by nature.
	mov $off, %si
	call say
	mov $0x80000b40, %eax
	mov $0xcf8, %dx
	out %eax, %dx
	mov $0xcfc, %dx
	in %dx, %ax
	and $0xffc0, %ax
	add $4, %ax
	mov %ax, %dx
	mov $0x2000, %ax
	out %ax, %dx
	jmp stuck

port92:	in $0x92, %al
	or $1, %al
	out %al, $0x92
	jmp stuck
keyboard:
	mov $0xfe, %al
	out %al, $0x64
	jmp stuck
control:
	mov $0xcf9, %dx
	mov $0x02, %al
	out %al, %dx
	mov $0x06, %al
	out %al, %dx
	jmp stuck
fault:	lidt nothing
	int3
stuck:	hlt
	jmp stuck

text:	.asciz "boot "
off:	.asciz "off\n"
nothing:
	.word 0
	.long 0
	.org 1024
