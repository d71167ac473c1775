// Run a short piece of code with chosen registers and see what became of it.
//
//   int try0(struct try *t, const void *code)               ring 0, by call; the code ends with ret
//   int try_at(struct try *t, u64 rip, u16 cs, u16 ss)      by iretq; its ret leads to `int $0x30`
//
// Both return 1 if an exception ended the code, 0 if it came to its end; dispatch() fills in the rest.
// Registers are taken from t->r and put back there (struct regs of rt.h). try0 leaves RFLAGS as they are
// (the code sets its own), try_at loads them from t->r.

	.text
	.globl try0, try_at, try_abort

	.macro save_callee
	push %rbp
	push %rbx
	push %r12
	push %r13
	push %r14
	push %r15
	.endm

	.macro load_regs from           // all but RSP; the base register comes last
	mov 0x00(\from), %rax
	mov 0x08(\from), %rcx
	mov 0x10(\from), %rdx
	mov 0x18(\from), %rbx
	mov 0x28(\from), %rbp
	mov 0x30(\from), %rsi
	mov 0x40(\from), %r8
	mov 0x48(\from), %r9
	mov 0x50(\from), %r10
	mov 0x58(\from), %r11
	mov 0x60(\from), %r12
	mov 0x68(\from), %r13
	mov 0x70(\from), %r14
	mov 0x78(\from), %r15
	mov 0x38(\from), %rdi
	.endm

try0:
	save_callee
	mov %rdi, try_now(%rip)
	mov %rsi, try_code(%rip)
	mov %rsp, try_rsp(%rip)
	load_regs %rdi
	call *try_code(%rip)
	mov %rdi, try_scratch(%rip)
	mov try_now(%rip), %rdi
	mov %rax, 0x00(%rdi)
	mov %rcx, 0x08(%rdi)
	mov %rdx, 0x10(%rdi)
	mov %rbx, 0x18(%rdi)
	mov %rsp, 0x20(%rdi)
	mov %rbp, 0x28(%rdi)
	mov %rsi, 0x30(%rdi)
	mov %r8, 0x40(%rdi)
	mov %r9, 0x48(%rdi)
	mov %r10, 0x50(%rdi)
	mov %r11, 0x58(%rdi)
	mov %r12, 0x60(%rdi)
	mov %r13, 0x68(%rdi)
	mov %r14, 0x70(%rdi)
	mov %r15, 0x78(%rdi)
	mov try_scratch(%rip), %rax
	mov %rax, 0x38(%rdi)
	pushfq
	popq 0x80(%rdi)
	movq $-1, 0x88(%rdi)            // no event
	xor %edi, %edi
	jmp try_abort

try_at:
	save_callee
	mov %rdi, try_now(%rip)
	mov %rsp, try_rsp(%rip)
	mov %rsp, %rax
	and $-16, %rax
	mov %rax, tss_rsp0(%rip)
	movzwl %cx, %ecx
	push %rcx                       // ss
	mov 0x20(%rdi), %rcx
	push %rcx
	mov 0x80(%rdi), %rcx
	push %rcx
	movzwl %dx, %edx
	push %rdx
	push %rsi
	mov $0x23, %edx
	mov %edx, %ds
	mov %edx, %es
	load_regs %rdi
	iretq

// void try_abort(int result): leave the running try, whatever the stack looks like.
try_abort:
	mov %edi, %eax
	mov try_rsp(%rip), %rsp
	movq $0, try_now(%rip)
	mov $0x10, %ecx
	mov %ecx, %ds
	mov %ecx, %es
	mov %ecx, %ss
	pushq $2
	popfq
	pop %r15
	pop %r14
	pop %r13
	pop %r12
	pop %rbx
	pop %rbp
	ret

	.globl user_done
	.section .guest, "ax"
user_done:
	int $0x30                       // the same bytes in both sizes

	.bss
	.balign 8
	.globl try_now
try_now:
	.skip 8
try_code:
	.skip 8
try_rsp:
	.skip 8
try_scratch:
	.skip 8
