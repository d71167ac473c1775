// Interrupt entry: 256 stubs that make every frame look alike, one common path to dispatch().
//
// Frame built (struct frame in rt.h), from the top of the stack downwards:
//   [ss esp]  only if the event came from an outer ring
//   eflags cs eip   pushed by the CPU
//   error vector    error is 0 where the CPU pushes none
//   eax ecx edx ebx esp ebp esi edi   pusha
//   ds es fs gs

	.text
	.globl entry_stubs
	.balign 16
entry_stubs:
	vector = 0
	.rept 256
	.balign 16
	.if (vector == 8) || ((vector >= 10) && (vector <= 14)) || (vector == 17)
	.else
	push $0
	.endif
	push $vector
	jmp entry_common
	vector = vector + 1
	.endr

entry_common:
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
	call dispatch
	add $4, %esp
	pop %gs
	pop %fs
	pop %es
	pop %ds
	popa
	add $8, %esp
	.globl entry_iret
entry_iret:
	iret
