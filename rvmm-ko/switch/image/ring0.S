/* SPDX-License-Identifier: GPL-2.0 */
/* Exceptions, NMIs and machine checks that interrupt the switcher itself. */
    /* An exception with CS.RPL 0 in its frame: the switcher itself was interrupted. Stack: vector, error, RIP, CS, RFLAGS, RSP, SS. */
    .balign 16
.Lring0:
    pushq %rax
    movzbl 8(%rsp), %eax
    xorb $0x80, %al
    cmpb $2, %al
    je .Lring0_nmi
    cmpb $18, %al
    je .Lring0_mc
    cmpb $1, %al
    je .Lring0_db
    cmpb $0, .Lctl+{exiting}(%rip)
    jne .Ldead
    cmpb $0, .Lctl+{serving}(%rip)
    jne .Lleave_serving
    movq %rax, .Lctl+{fault_vector}(%rip)
    movq 16(%rsp), %rax
    movq %rax, .Lctl+{fault_error}(%rip)
    movq 24(%rsp), %rax
    movq %rax, .Lctl+{fault_rip}(%rip)
    movq %cr2, %rax
    movq %rax, .Lctl+{cr2}(%rip)
    movb $1, .Lctl+{aborted}(%rip)
    leaq .Lctl+{frame}(%rip), %rsp
    jmp .Lout

    /* A fault while the host's state is being restored: there is no state left to go back to. */
.Ldead:
    hlt
    jmp .Ldead

.Lring0_db:
    movb $1, .Lctl+{pending_db}(%rip)
    pushq %rbx
    movq 32(%rsp), %rax
    jmp .Lsyscall_window
.Lring0_nmi:
    movb $1, .Lctl+{pending_nmi}(%rip)
    jmp .Lleave_or_resume
.Lring0_mc:
    movb $1, .Lctl+{pending_mc}(%rip)
.Lleave_or_resume:
    /* Between the check and IRETQ the event would wait for the next exit: leave now. The guest's registers are still in its context. */
    pushq %rbx
    movq 32(%rsp), %rax
    leaq .Lcheck(%rip), %rbx
    cmpq %rbx, %rax
    jb 1f
    leaq .Liret_end(%rip), %rbx
    cmpq %rbx, %rax
    jb .Lpending
1:
.Lsyscall_window:
    /* At the first instructions behind SYSCALL the stack is the guest's: below it, or anywhere near it, nothing of ours is written.
       What is left of them is done here, and they go on on our own stack. NMIs stay blocked, and there is no IRETQ before the check. */
    leaq .Lsyscall_stack(%rip), %rbx
    cmpq %rbx, %rax
    jae 1f
    leaq .Lsyscall_compat(%rip), %rbx
    cmpq %rbx, %rax
    jb 1f
    jne 2f
    movb $1, .Lctl+{syscall_compat}(%rip)
2:  incq .Lctl+{rolled}(%rip)
    movq 56(%rsp), %rax
    movq %rax, .Lctl+{frame_rsp}(%rip)
    popq %rbx
    popq %rax
    leaq .Lctl+{frame_vector}(%rip), %rsp
    jmp .Lsyscall_stack
1:  popq %rbx
    /* Back without IRETQ: RIP, RFLAGS and RAX below the interrupted stack pointer, where nothing lives (no red zone here). */
    pushq %rbx
    movq 56(%rsp), %rax
    subq $24, %rax
    movq 32(%rsp), %rbx
    movq %rbx, 16(%rax)
    movq 48(%rsp), %rbx
    movq %rbx, 8(%rax)
    movq 8(%rsp), %rbx
    movq %rbx, (%rax)
    popq %rbx
    movq %rax, %rsp
    popq %rax
    popfq
    ret
    int3

