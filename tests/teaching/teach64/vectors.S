# All 256 vectors, and SYSCALL.
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
	testb $3, 24(%rsp)
	jz 1f
	swapgs
1:	push %rax
	push %rcx
	push %rdx
	push %rbx
	push %rbp
	push %rsi
	push %rdi
	push %r8
	push %r9
	push %r10
	push %r11
	push %r12
	push %r13
	push %r14
	push %r15
	cld
	mov %rsp, %rdi
	call trap
.globl trap_return
trap_return:
	pop %r15
	pop %r14
	pop %r13
	pop %r12
	pop %r11
	pop %r10
	pop %r9
	pop %r8
	pop %rdi
	pop %rsi
	pop %rbp
	pop %rbx
	pop %rdx
	pop %rcx
	pop %rax
	testb $3, 24(%rsp)
	jz 1f
	swapgs
1:	add $16, %rsp
	iretq

# SYSCALL: number in RAX, RDI, RSI and RDX. GS holds the kernel's stack at 0, and room for the program's at 8.
.globl syscall_entry
syscall_entry:
	swapgs
	mov %rsp, %gs:8
	mov %gs:0, %rsp
	push %gs:8
	push %rcx
	push %r11
	push %rdi
	push %rsi
	push %rdx
	mov %rdx, %rcx
	mov %rsi, %rdx
	mov %rdi, %rsi
	mov %rax, %rdi
	sti
	call system_call
	cli
	pop %rdx
	pop %rsi
	pop %rdi
	pop %r11
	pop %rcx
	pop %rsp
	swapgs
	sysretq

# user_enter(rip, rsp): the program in ring 3, until it ends: then returns what user_leave is given.
.globl user_enter, user_leave
user_enter:
	push %rbp
	push %rbx
	push %r12
	push %r13
	push %r14
	push %r15
	mov %rsp, user_return
	push $0x23
	push %rsi
	push $0x202
	push $0x2b
	push %rdi
	cli
	swapgs
	iretq
user_leave:
	mov user_return, %rsp
	mov %rdi, %rax
	pop %r15
	pop %r14
	pop %r13
	pop %r12
	pop %rbx
	pop %rbp
	ret

.data
	.balign 8
user_return:
	.quad 0
