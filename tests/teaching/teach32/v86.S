# Virtual-8086 mode: the way in and out, and the program that runs there.
.text
# v86_enter(struct frame *f): loads it all and goes to virtual-8086 mode; comes back when the monitor calls v86_leave. The stack that traps from
# there take begins below what is kept here.
.globl v86_enter, v86_leave
v86_enter:
	mov 4(%esp), %eax
	push %ebp
	push %ebx
	push %esi
	push %edi
	mov %esp, v86_stack
	mov v86_tss, %ecx
	mov %esp, 4(%ecx)
	# 21 double words, from GS to the last segment.
	sub $84, %esp
	mov %eax, %esi
	mov %esp, %edi
	mov $21, %ecx
	cld
	rep movsl
	jmp trap_return
v86_leave:
	mov v86_stack, %esp
	pop %edi
	pop %esi
	pop %ebx
	pop %ebp
	ret

.data
v86_stack:
	.long 0
.globl v86_tss
v86_tss:
	.long 0

# At 2000:0000 with SS:SP = 3000:1000; results go to 2000:0800.
.section .rodata
.globl v86_code, v86_code_end
.code16
v86_code:
	mov %cs, %ax
	mov %ax, %ds
	mov $0x800, %di
	pushf
	pop %ax
	mov %ax, (%di)		# 0: flags at the beginning
	cli
	pushf
	pop %ax
	mov %ax, 2(%di)		# 2: interrupts off
	sti
	pushf
	popw 4(%di)		# 4: on again
	mov $0x0246, %ax
	push %ax
	popf
	pushf
	popw 6(%di)		# 6
	pushfl
	popl 8(%di)		# 8: VM and RF are not in the image
	int $0x60
	mov %ax, 12(%di)	# 12: what the handler gave
	mov %sp, 14(%di)	# 14
	# Segments are plain addresses, the address wraps at 64 KiB offsets but not at 1 MiB.
	mov $0x2080, %ax
	mov %ax, %es
	mov %es:0, %ax
	mov %ax, 16(%di)	# 16: the word at 0
	mov $0xffff, %bx
	mov $0x2fff, %ax
	mov %ax, %es
	movb $0x77, %es:16	# 3000:0000
	mov $0x3000, %ax
	mov %ax, %es
	mov %es:0, %al
	xor %ah, %ah
	mov %ax, 18(%di)	# 18: 77
	# Ports by the bitmap: the display's are allowed, COM1's are not.
	mov $0x3d4, %dx
	mov $0x0e, %al
	out %al, %dx
	mov $0xff, %al
	in %dx, %al
	xor %ah, %ah
	mov %ax, 20(%di)	# 20: 0e
	mov $0x3f8, %dx
	mov $'v', %al
	out %al, %dx		# the monitor's to see
	# Self-modifying: the immediate of the next instruction.
	movw $0x4321, %cs:(1f - v86_code + 1)
1:	mov $0x1111, %ax
	mov %ax, 22(%di)	# 22: 4321
	# A far call and a loop with a string.
	lcall $0x2000, $(2f - v86_code)
	mov %ax, 24(%di)	# 24: beef
	lar %ax, %ax		# 6
	mov $0x0a, %al
	jmp 3f
2:	mov $0xbeef, %ax
	lret
3:	# The BIOS in virtual-8086 mode: a character by INT 10h, on page 0 where the cursor is.
	mov $0x0200, %ax
	xor %bx, %bx
	mov $0x0005, %dx
	int $0x10
	mov $0x0e56, %ax
	mov $7, %bx
	int $0x10
	mov $0x0300, %ax
	xor %bx, %bx
	int $0x10
	mov %dx, 26(%di)	# 26: cursor behind it
	int $0x12
	mov %ax, 28(%di)	# 28: memory size
	sti
	hlt
	int $0xff
	# The handler of INT 60, at v86_handler: its flags have IF off.
.globl v86_handler
v86_handler:
	pushf
	pop %ax
	iret
v86_code_end:
.code32
