/* SPDX-License-Identifier: GPL-2.0 */
/* Page faults and int3 that may end no stay: the engine is asked in the middle of it, on the host's stack and page tables and with the host's GS
   base, as it reads per-CPU data. All else stays that of the guest world: descriptor tables, CR0, CR4, MSRs, and no interrupts. */
.Lserve:
    /* A marked entry tells by itself. */
    testb $8, .Lctl+{frame_vector}+8(%rip)
    jnz .Lunserved
    /* A null selector with an RPL, which the IRETQ back would take away. Other data segments it leaves alone: they are there in this ring. */
    .irp register, es, ds, fs, gs
    movl %\register, %eax
    decl %eax
    cmpl $3, %eax
    jb .Lunserved
    .endr
    xorl %r15d, %r15d
    /* The engine may have told what becomes of this very exception in this stay: then nobody is asked, and CR3 stays. The frame of a fault has RF
       set, for the instruction that is done now. */
.Lreply:
    movq .Lctl+{frame_rip}(%rip), %rbp
    movl %ebp, %ebx
    andl ${last_reply}, %ebx
    leal (%rbx,%rbx,2), %ebx
    shll $4, %ebx
    leaq .Lctl+{replies}(%rip), %r8
    addq %rbx, %r8
    cmpq %rbp, {reply_rip}(%r8)
    jne .Lask
    movq %cr3, %rax
    cmpq %rax, {reply_cr3}(%r8)
    jne .Lask
    movl .Lctl+{frame_vector}+8(%rip), %eax
    shlq $32, %rax
    movzbl .Lctl+{frame_vector}(%rip), %ecx
    shll $16, %ecx
    movzwl .Lctl+{frame_cs}(%rip), %edx
    orl %edx, %ecx
    orq %rcx, %rax
    cmpq %rax, {reply_key}(%r8)
    jne .Lask
    leaq .Lctl+{replied}(%rip), %rbx
    cmpb $(14 - 128), .Lctl+{frame_vector}(%rip)
    jne 1f
    movq .Lctl+{cr2}(%rip), %rax
    cmpq %rax, {reply_cr2}(%r8)
    jne .Lask
    andq $~0x10000, .Lctl+{frame_rflags}(%rip)
    addq $8, %rbx
1:  incq (%rbx)
    incq .Lctl+{served}(%rip)
    movl {reply_register}(%r8), %ecx
    movl {reply_value}(%r8), %eax
    leaq .Lctl+{frame}(%rip), %rsp
    movq %rax, (%rsp,%rcx)
    movq {reply_next}(%r8), %rax
    movq %rax, .Lctl+{frame_rip}(%rip)
    jmp .Lcheck
.Lask:
    testl %r15d, %r15d
    jnz .Lsegments
    /* What an exit stores: the guest world may be left in between (below), and then is gone. */
    rvmm_store_segments
    movl $0xc0000101, %ecx
    rdmsr
    movl %eax, .Lctl+{guest_gs_base}(%rip)
    movl %edx, .Lctl+{guest_gs_base}+4(%rip)
    movl .Lctl+{host_gs_base}(%rip), %eax
    movl .Lctl+{host_gs_base}+4(%rip), %edx
    wrmsr
    movq %cr3, %rbx
    movq .Lctl+{host_cr3}(%rip), %rax
    movq %rax, %cr3
    /* From here on, and only with these tables, the stack is the host's. */
    movq .Lctl+{host_rsp}(%rip), %rsp
    andq $~15, %rsp
    movq .Lctl+{server}(%rip), %rdi
    movq %rbx, %rsi
    movq .Lctl+{cr2}(%rip), %rdx
    movl .Lctl+{frame_vector}+8(%rip), %ecx
    movzbl .Lctl+{frame_vector}(%rip), %r8d
    cmpb $(14 - 128), %r8b
    je 1f
    movq .Lctl+{frame_rip}(%rip), %rdx
    movl .Lctl+{frame_cs}(%rip), %ecx
1:  movb $1, .Lctl+{serving}(%rip)
    call *.Lctl+{serve}(%rip)
    cmpb $1, .Lctl+{serving}(%rip)
    jne .Lwas_left
    movb $0, .Lctl+{serving}(%rip)
    leaq .Lctl+{frame}(%rip), %rsp
    testl %eax, %eax
    jz .Lout
    /* Back: the guest's GS base, and its tables, which are read anew. The aliases of the guest's pages are looked at with these only. */
    movq %rax, %rsi
    movq %rdx, %rbp
    movl $0xc0000101, %ecx
    movl .Lctl+{guest_gs_base}(%rip), %eax
    movl .Lctl+{guest_gs_base}+4(%rip), %edx
    wrmsr
    movq %rbx, %cr3
    cmpl ${replied_with}, %esi
    jne 1f
    incl %r15d
    jmp .Lreply
1:  cmpl ${resume}, %esi
    jne 1f
    incq .Lctl+{served}(%rip)
    /* In a block, behind an int3. */
    testq %rbp, %rbp
    jz .Lcheck
    movq %rbp, .Lctl+{frame_rip}(%rip)
    jmp .Lcheck
    /* The guest's own, with the error code: an event, if page faults of programs are lent. */
1:  cmpb $0, .Lctl+{may_reflect}(%rip)
    je .Lsegments
    cmpb $0, .Lctl+{in_kernel}(%rip)
    jne .Lsegments
    movq %rbp, %rdx
    rvmm_load_event
    jmp .Lreflect

    /* Any exception but NMI, #MC and #DB while the engine is asked: int3 of a probe or of code that is being patched, ud2 of a warning, a page
       fault. Whatever the host's kernel wants to do about it, it does in its own world: that is restored here, on whatever stack this is, and
       the instruction met again. Stack as in .Lring0, with RAX on it and the vector in EAX. */
.Lleave_serving:
    movb $1, .Lctl+{exiting}(%rip)
    pushq %rcx
    pushq %rdx
    /* The RIP of int3 is behind it. */
    cmpb $3, %al
    jne 1f
    decq 40(%rsp)
1:  movq ${host_cs}, 48(%rsp)
    movq ${host_ss}, 72(%rsp)
    rvmm_host_world
    movb $2, .Lctl+{serving}(%rip)
    lidt .Lctl+{host_idtr}(%rip)
    popq %rdx
    popq %rcx
    popq %rax
    addq $16, %rsp
    iretq

    /* Such a call has come back, in the host's world: nothing is left of the exit but to return. The engine will look at the fault. */
.Lwas_left:
    movq .Lctl+{host_rsp}(%rip), %rsp
    jmp .Lreturn

