# All 256 vectors: each pushes 0 where the CPU pushes no error code, then its number.
.text
	.balign 16
.globl vectors
vectors:
.set n, 0
.rept 256
	.balign 16
	.if !(n == 8 || (n >= 10 && n <= 14) || n == 17)
	push $0
	.endif
	push $n
	jmp all_traps
	.set n, n + 1
.endr

all_traps:
	pusha
	push %ds
	push %es
	push %fs
	push %gs
	mov $0x10, %eax
	mov %eax, %ds
	mov %eax, %es
	cld
	push %esp
	call trap
	add $4, %esp
.globl trap_return
trap_return:
	pop %gs
	pop %fs
	pop %es
	pop %ds
	popa
	add $8, %esp
	iret
