// Interrupt entry: 256 stubs that make every frame look alike, one common path to dispatch().
//
// Frame built (struct frame in rt.h), from the top of the stack downwards:
//   ss rsp rflags cs rip   pushed by the CPU, always (SDM 3, 6.14.2)
//   error vector           error is 0 where the CPU pushes none
//   r15 ... rax            in the order of struct regs

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
	push %r15
	push %r14
	push %r13
	push %r12
	push %r11
	push %r10
	push %r9
	push %r8
	push %rdi
	push %rsi
	push %rbp
	push %rsp
	push %rbx
	push %rdx
	push %rcx
	push %rax
	cld
	mov %rsp, %rdi
	mov %rsp, %rbp
	and $-16, %rsp
	call dispatch
	mov %rbp, %rsp
	pop %rax
	pop %rcx
	pop %rdx
	pop %rbx
	pop %rbp                        // RSP's place
	pop %rbp
	pop %rsi
	pop %rdi
	pop %r8
	pop %r9
	pop %r10
	pop %r11
	pop %r12
	pop %r13
	pop %r14
	pop %r15
	add $16, %rsp
	.globl entry_iret
entry_iret:
	iretq
