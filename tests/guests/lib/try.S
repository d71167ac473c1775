// Run a short piece of code with chosen registers and see what became of it.
//
//   int try0(struct try *t, const void *code)   same ring, by call; the code ends with ret
//   int try3(struct try *t, const void *code)   ring 3, by iret; its ret leads to `int $0x30`
//
// Both return 1 if an exception ended the code, 0 if it came to its end; dispatch() fills in the rest.
// Registers are taken from t->r and put back there. try0 leaves EFLAGS as they are (the code sets
// its own), try3 loads them from t->r.

	.text
	.globl try0, try3, try_abort

try0:
	push %ebp
	push %ebx
	push %esi
	push %edi
	mov 20(%esp), %eax
	mov 24(%esp), %ecx
	mov %eax, try_now
	mov %ecx, try_code
	mov %esp, try_esp
	mov 0(%eax), %edi
	mov 4(%eax), %esi
	mov 8(%eax), %ebp
	mov 16(%eax), %ebx
	mov 20(%eax), %edx
	mov 24(%eax), %ecx
	mov 28(%eax), %eax
	call *try_code
	push %eax                       // the code may have left null selectors, which no real CPU reads through
	mov $0x10, %eax
	mov %eax, %ds
	mov %eax, %es
	pop %eax
	mov %eax, try_scratch
	mov try_now, %eax
	mov %edi, 0(%eax)
	mov %esi, 4(%eax)
	mov %ebp, 8(%eax)
	mov %esp, 12(%eax)
	mov %ebx, 16(%eax)
	mov %edx, 20(%eax)
	mov %ecx, 24(%eax)
	mov try_scratch, %ecx
	mov %ecx, 28(%eax)
	pushf
	pop %ecx
	mov %ecx, 32(%eax)
	movl $-1, 36(%eax)              // no event
	movl $0, try_now
	pushl $2
	popf
	mov try_esp, %esp
	xor %eax, %eax
	jmp 1f

try3:
	push %ebp
	push %ebx
	push %esi
	push %edi
	mov 20(%esp), %eax
	mov 24(%esp), %ecx
	mov %eax, try_now
	mov %ecx, try_code
	mov %esp, try_esp
	mov %esp, tss_esp0
	mov 12(%eax), %edx              // the user's stack: its return address is the way out
	sub $4, %edx
	movl $user_done, (%edx)
	push $0x23
	push %edx
	push 32(%eax)
	push $0x1b
	push %ecx
	mov $0x23, %edx
	mov %edx, %ds
	mov %edx, %es
	mov %edx, %fs
	mov %edx, %gs
	mov 0(%eax), %edi
	mov 4(%eax), %esi
	mov 8(%eax), %ebp
	mov 16(%eax), %ebx
	mov 20(%eax), %edx
	mov 24(%eax), %ecx
	mov 28(%eax), %eax
	iret

// void try_abort(int result): leave the running try, whatever the stack looks like.
try_abort:
	mov 4(%esp), %eax
	mov try_esp, %esp
	movl $0, try_now
	mov $0x10, %ecx
	mov %ecx, %ds
	mov %ecx, %es
	mov %ecx, %fs
	mov %ecx, %gs
	pushl $2
	popf
1:
	pop %edi
	pop %esi
	pop %ebx
	pop %ebp
	ret

	.globl user_done
	.section .guest, "ax"
user_done:
	int $0x30

	.bss
	.balign 4
	.globl try_now
try_now:
	.skip 4
try_code:
	.skip 4
try_esp:
	.skip 4
try_scratch:
	.skip 4
